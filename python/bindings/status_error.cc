#include "python/bindings/status_error.h"

#include <string>

namespace tfipu {
namespace {

namespace py = pybind11;

PyObject* status_error_type = nullptr;  // lives as long as the process

}  // namespace

void DefineStatusError(py::module_& module) {
  status_error_type = PyErr_NewExceptionWithDoc(
      "tensorflow_ipu._native.StatusError",
      "An error of the native code. `code` is one of tensorflow.errors' codes, `message` says what is wrong.",
      nullptr, nullptr);
  module.add_object("StatusError", py::reinterpret_borrow<py::object>(status_error_type));
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const StatusException& exception) {
      const py::object type = py::reinterpret_borrow<py::object>(status_error_type);
      const int code = static_cast<int>(exception.status().code());
      // A message may quote bytes of a damaged file.
      const std::string message(exception.status().message());
      py::object text = py::reinterpret_steal<py::object>(
          PyUnicode_DecodeUTF8(message.data(), static_cast<Py_ssize_t>(message.size()), "replace"));
      py::object error = type(code, text);
      error.attr("code") = code;
      error.attr("message") = text;
      PyErr_SetObject(type.ptr(), error.ptr());
    }
  });
}

}  // namespace tfipu
