// One stage: HLO -> native code.
#ifndef CC_COMPILER_STAGE_COMPILER_H_
#define CC_COMPILER_STAGE_COMPILER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cc/compiler/lifted_weight.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// What is known of a stage's HLO before it is compiled.
struct StageSignature {
  std::vector<TensorSpec> parameters;
  std::vector<TensorSpec> results;  // tuples flattened
};

struct StageCode {
  StageSignature signature;           // without the weights
  std::vector<LiftedWeight> weights;  // further parameters, in order
  std::string code;                   // xla.cpu.CompilationResultProto
  std::string hlo;                    // xla.HloModuleProto, weights being parameters
  std::uint64_t code_size = 0;        // machine code and constants
  std::uint64_t temp_size = 0;
};

// Generates code for the CPU of that LLVM name. The same HLO, CPU and threshold give the same bytes on every
// machine. InvalidArgument: not HLO, a dynamic shape, an operation that cannot be compiled. Thread-safe.
absl::StatusOr<StageCode> CompileStage(absl::string_view hlo, absl::string_view cpu,
                                       std::uint64_t weight_threshold);

}  // namespace tfipu

#endif  // CC_COMPILER_STAGE_COMPILER_H_
