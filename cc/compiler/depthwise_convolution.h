// Depthwise convolutions in a form for which XLA:CPU generates fast code.
#ifndef CC_COMPILER_DEPTHWISE_CONVOLUTION_H_
#define CC_COMPILER_DEPTHWISE_CONVOLUTION_H_

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "xla/hlo/ir/hlo_module.h"
#include "xla/hlo/pass/hlo_pass_interface.h"

namespace tfipu {

// Turns convolutions whose every group has one input feature into a sum of shifted inputs, each multiplied
// with one element of the kernel for each feature. XLA:CPU has no code of its own for these convolutions and
// walks through them element by element, an order of magnitude slower. Left as they are: kernels of more than
// kMaxTaps elements, dilated inputs (transposed convolutions), types that are no floating-point numbers.
class DepthwiseConvolutionRewriter : public xla::HloModulePass {
 public:
  static constexpr int kMaxTaps = 128;
  absl::string_view name() const override { return "depthwise-convolution-rewriter"; }

 protected:
  absl::StatusOr<bool> RunImpl(xla::HloModule* module,
                               const absl::flat_hash_set<absl::string_view>& execution_threads) override;
};

}  // namespace tfipu

#endif  // CC_COMPILER_DEPTHWISE_CONVOLUTION_H_
