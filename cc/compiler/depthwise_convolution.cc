#include "cc/compiler/depthwise_convolution.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "xla/hlo/ir/hlo_computation.h"
#include "xla/hlo/ir/hlo_instruction.h"
#include "xla/literal_util.h"
#include "xla/shape_util.h"

namespace tfipu {
namespace {

bool IsCandidate(const xla::HloInstruction& convolution) {
  if (convolution.opcode() != xla::HloOpcode::kConvolution || convolution.batch_group_count() != 1)
    return false;
  const xla::ConvolutionDimensionNumbers& dims = convolution.convolution_dimension_numbers();
  const xla::Shape& input = convolution.operand(0)->shape();
  const xla::Shape& kernel = convolution.operand(1)->shape();
  const xla::PrimitiveType type = convolution.shape().element_type();
  if (input.element_type() != type || kernel.element_type() != type) return false;
  if (type != xla::F32 && type != xla::F64 && type != xla::F16 && type != xla::BF16) return false;
  if (convolution.feature_group_count() < 2 ||
      convolution.feature_group_count() != input.dimensions(dims.input_feature_dimension())) {
    return false;
  }
  std::int64_t taps = 1;
  for (const xla::WindowDimension& window : convolution.window().dimensions()) {
    if (window.base_dilation() != 1) return false;
    taps *= window.size();
  }
  return taps <= DepthwiseConvolutionRewriter::kMaxTaps &&
         !xla::ShapeUtil::IsZeroElementArray(convolution.shape());
}

// Adds instructions to the computation of one convolution.
class Rewriter {
 public:
  explicit Rewriter(xla::HloInstruction* convolution)
      : convolution_(convolution), dims_(convolution->convolution_dimension_numbers()) {}

  absl::Status Rewrite() {
    const xla::PrimitiveType type = convolution_->shape().element_type();
    sum_type_ = type == xla::F64 ? xla::F64 : xla::F32;
    input_ = Pad(RepeatFeatures(Convert(convolution_->mutable_operand(0), sum_type_)));
    kernel_ = Convert(convolution_->mutable_operand(1), sum_type_);

    // In the input's order of dimensions, which is transposed to the output's at the end.
    product_shape_ = xla::ShapeUtil::MakeShape(sum_type_, input_->shape().dimensions());
    for (int i = 0; i < dims_.input_spatial_dimensions_size(); ++i) {
      product_shape_.set_dimensions(dims_.input_spatial_dimensions(i),
                                    convolution_->shape().dimensions(dims_.output_spatial_dimensions(i)));
    }
    xla::HloInstruction* sum = nullptr;
    std::vector<std::int64_t> tap(dims_.input_spatial_dimensions_size(), 0);
    do {
      xla::HloInstruction* product = Binary(xla::HloOpcode::kMultiply, Shifted(tap), KernelElement(tap));
      sum = sum == nullptr ? product : Binary(xla::HloOpcode::kAdd, sum, product);
    } while (Next(tap));
    return convolution_->parent()->ReplaceInstruction(convolution_, Convert(Transpose(sum), type));
  }

 private:
  xla::HloInstruction* Add(std::unique_ptr<xla::HloInstruction> instruction) {
    instruction->set_metadata(convolution_->metadata());
    return convolution_->parent()->AddInstruction(std::move(instruction));
  }

  xla::HloInstruction* Binary(xla::HloOpcode opcode, xla::HloInstruction* a, xla::HloInstruction* b) {
    return Add(xla::HloInstruction::CreateBinary(product_shape_, opcode, a, b));
  }

  xla::HloInstruction* Convert(xla::HloInstruction* value, xla::PrimitiveType type) {
    if (value->shape().element_type() == type) return value;
    return Add(
        xla::HloInstruction::CreateConvert(xla::ShapeUtil::ChangeElementType(value->shape(), type), value));
  }

  // With m output features for each input feature, the input's features c become c, c, ... (m times).
  xla::HloInstruction* RepeatFeatures(xla::HloInstruction* input) {
    const std::int64_t feature = dims_.input_feature_dimension();
    const std::int64_t outputs = convolution_->shape().dimensions(dims_.output_feature_dimension());
    const std::int64_t multiplier = outputs / input->shape().dimensions(feature);
    if (multiplier == 1) return input;
    std::vector<std::int64_t> wide(input->shape().dimensions().begin(), input->shape().dimensions().end());
    std::vector<std::int64_t> merged = wide;
    merged[feature] = outputs;
    wide.insert(wide.begin() + feature + 1, multiplier);
    std::vector<std::int64_t> places;
    for (std::int64_t i = 0; i < merged.size(); ++i) places.push_back(i <= feature ? i : i + 1);
    xla::HloInstruction* repeated =
        Add(xla::HloInstruction::CreateBroadcast(xla::ShapeUtil::MakeShape(sum_type_, wide), input, places));
    return Add(xla::HloInstruction::CreateReshape(xla::ShapeUtil::MakeShape(sum_type_, merged), repeated));
  }

  xla::HloInstruction* Pad(xla::HloInstruction* input) {
    xla::PaddingConfig config = xla::MakeNoPaddingConfig(input->shape().dimensions().size());
    xla::Shape shape = xla::ShapeUtil::MakeShape(sum_type_, input->shape().dimensions());
    bool needed = false;
    for (int i = 0; i < dims_.input_spatial_dimensions_size(); ++i) {
      const xla::WindowDimension& window = convolution_->window().dimensions(i);
      const std::int64_t dim = dims_.input_spatial_dimensions(i);
      config.mutable_dimensions(dim)->set_edge_padding_low(window.padding_low());
      config.mutable_dimensions(dim)->set_edge_padding_high(window.padding_high());
      shape.set_dimensions(dim, shape.dimensions(dim) + window.padding_low() + window.padding_high());
      needed |= window.padding_low() != 0 || window.padding_high() != 0;
    }
    if (!needed) return input;
    xla::HloInstruction* zero = Add(xla::HloInstruction::CreateConstant(xla::LiteralUtil::Zero(sum_type_)));
    return Add(xla::HloInstruction::CreatePad(shape, input, zero, config));
  }

  // The input elements that meet the kernel's element `tap`, one for each output element.
  xla::HloInstruction* Shifted(const std::vector<std::int64_t>& tap) {
    std::vector<std::int64_t> start(input_->shape().dimensions().size(), 0), stride(start.size(), 1);
    std::vector<std::int64_t> limit(input_->shape().dimensions().begin(), input_->shape().dimensions().end());
    for (std::size_t i = 0; i < tap.size(); ++i) {
      const xla::WindowDimension& window = convolution_->window().dimensions(i);
      const std::int64_t dim = dims_.input_spatial_dimensions(i);
      start[dim] = tap[i] * window.window_dilation();
      stride[dim] = window.stride();
      limit[dim] = start[dim] + (product_shape_.dimensions(dim) - 1) * window.stride() + 1;
    }
    return Add(xla::HloInstruction::CreateSlice(product_shape_, input_, start, limit, stride));
  }

  xla::HloInstruction* KernelElement(const std::vector<std::int64_t>& tap) {
    std::vector<std::int64_t> start(kernel_->shape().dimensions().size(), 0), stride(start.size(), 1);
    std::vector<std::int64_t> limit(kernel_->shape().dimensions().begin(),
                                    kernel_->shape().dimensions().end());
    xla::Shape shape = xla::ShapeUtil::MakeShape(sum_type_, kernel_->shape().dimensions());
    for (std::size_t i = 0; i < tap.size(); ++i) {
      const xla::WindowDimension& window = convolution_->window().dimensions(i);
      const std::int64_t dim = dims_.kernel_spatial_dimensions(i);
      start[dim] = window.window_reversal() ? window.size() - 1 - tap[i] : tap[i];
      limit[dim] = start[dim] + 1;
      shape.set_dimensions(dim, 1);
    }
    xla::HloInstruction* element =
        Add(xla::HloInstruction::CreateSlice(shape, kernel_, start, limit, stride));
    const std::int64_t features = shape.dimensions(dims_.kernel_output_feature_dimension());
    element =
        Add(xla::HloInstruction::CreateReshape(xla::ShapeUtil::MakeShape(sum_type_, {features}), element));
    return Add(
        xla::HloInstruction::CreateBroadcast(product_shape_, element, {dims_.input_feature_dimension()}));
  }

  bool Next(std::vector<std::int64_t>& tap) const {
    for (int i = static_cast<int>(tap.size()) - 1; i >= 0; --i) {
      if (++tap[i] < convolution_->window().dimensions(i).size()) return true;
      tap[i] = 0;
    }
    return false;
  }

  xla::HloInstruction* Transpose(xla::HloInstruction* sum) {
    std::vector<std::int64_t> source(product_shape_.dimensions().size());
    source[dims_.output_batch_dimension()] = dims_.input_batch_dimension();
    source[dims_.output_feature_dimension()] = dims_.input_feature_dimension();
    bool needed = dims_.output_batch_dimension() != dims_.input_batch_dimension() ||
                  dims_.output_feature_dimension() != dims_.input_feature_dimension();
    for (int i = 0; i < dims_.input_spatial_dimensions_size(); ++i) {
      source[dims_.output_spatial_dimensions(i)] = dims_.input_spatial_dimensions(i);
      needed |= dims_.output_spatial_dimensions(i) != dims_.input_spatial_dimensions(i);
    }
    if (!needed) return sum;
    return Add(xla::HloInstruction::CreateTranspose(
        xla::ShapeUtil::MakeShape(sum_type_, convolution_->shape().dimensions()), sum, source));
  }

  xla::HloInstruction* const convolution_;
  const xla::ConvolutionDimensionNumbers dims_;
  xla::PrimitiveType sum_type_ = xla::F32;
  xla::HloInstruction* input_ = nullptr;
  xla::HloInstruction* kernel_ = nullptr;
  xla::Shape product_shape_;
};

}  // namespace

absl::StatusOr<bool> DepthwiseConvolutionRewriter::RunImpl(
    xla::HloModule* module, const absl::flat_hash_set<absl::string_view>& execution_threads) {
  bool changed = false;
  for (xla::HloComputation* computation : module->MakeNonfusionComputations(execution_threads)) {
    for (xla::HloInstruction* instruction : computation->MakeInstructionPostOrder()) {
      if (!IsCandidate(*instruction)) continue;
      if (absl::Status status = Rewriter(instruction).Rewrite(); !status.ok()) return status;
      changed = true;
    }
  }
  return changed;
}

}  // namespace tfipu
