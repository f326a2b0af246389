// Compiles for the emulator of IPUs: native code for a named CPU, by the XLA inside TensorFlow.
#ifndef CC_COMPILER_IPU_COMPILER_H_
#define CC_COMPILER_IPU_COMPILER_H_

#include <memory>

#include "cc/compiler/target_compiler.h"

namespace tfipu {

// InvalidArgument from Begin(): a CPU that is not known. ResourceExhausted from End(): a device needs more
// memory than an IPU has.
std::unique_ptr<TargetCompiler> MakeIpuCompiler();

}  // namespace tfipu

#endif  // CC_COMPILER_IPU_COMPILER_H_
