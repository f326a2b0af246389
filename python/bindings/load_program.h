// `_native.LoadProgram`: an executable under load, for `tensorflow_ipu bench`.
#ifndef PYTHON_BINDINGS_LOAD_PROGRAM_H_
#define PYTHON_BINDINGS_LOAD_PROGRAM_H_

#include <pybind11/pybind11.h>

namespace tfipu {

void DefineLoadProgram(pybind11::module_& module);

}  // namespace tfipu

#endif  // PYTHON_BINDINGS_LOAD_PROGRAM_H_
