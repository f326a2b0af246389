// Takes large constants out of a module, so that they can be mapped from the file instead of living in the
// code.
#ifndef CC_COMPILER_WEIGHT_LIFTING_H_
#define CC_COMPILER_WEIGHT_LIFTING_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "cc/compiler/lifted_weight.h"
#include "xla/hlo/ir/hlo_module.h"

namespace tfipu {

// Turns each constant of at least `threshold` bytes that the entry computation uses, itself or through calls,
// into a further parameter of it; the weights are returned in the order of these parameters. Identical
// constants share one. What XLA can compute of constants alone is computed first, so that no step pays for
// it. Constants that are one value repeated, or that count upwards, stay: the code generates them for less
// than reading them costs. Constants inside loop bodies stay too: they would have to be carried through the
// loop's state.
absl::StatusOr<std::vector<LiftedWeight>> LiftWeights(xla::HloModule& module, std::uint64_t threshold);

}  // namespace tfipu

#endif  // CC_COMPILER_WEIGHT_LIFTING_H_
