// One stage: HLO -> code, as far as it is the same for all targets.
#ifndef CC_COMPILER_STAGE_COMPILER_H_
#define CC_COMPILER_STAGE_COMPILER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cc/compiler/lifted_weight.h"
#include "cc/compiler/target_compiler.h"
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
  std::string hlo;                    // xla.HloModuleProto, weights being parameters
  bool may_not_end = false;           // it has a loop
  GeneratedCode generated;
};

// Generates code for the target. The same HLO, target and threshold give the same bytes on every machine, if
// the target's own compiler does. InvalidArgument: not HLO, a dynamic shape, an operation that cannot be
// compiled.
absl::StatusOr<StageCode> CompileStage(absl::string_view hlo, const std::vector<Donation>& donations,
                                       std::uint64_t weight_threshold, TargetCompiler& target);

}  // namespace tfipu

#endif  // CC_COMPILER_STAGE_COMPILER_H_
