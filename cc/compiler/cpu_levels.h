// The CPUs that code can be generated for.
#ifndef CC_COMPILER_CPU_LEVELS_H_
#define CC_COMPILER_CPU_LEVELS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tfipu {

inline constexpr char kDefaultCpu[] = "x86-64-v3";

// The instruction sets that code for the CPU of that LLVM name may use, by their LLVM names ("avx2").
// InvalidArgument with all known names when it is not among them.
absl::StatusOr<std::vector<std::string>> CpuFeatures(absl::string_view cpu);

}  // namespace tfipu

#endif  // CC_COMPILER_CPU_LEVELS_H_
