// Convolutions before and after the rewriting, both evaluated by XLA's interpreter of HLO.
#include "cc/compiler/depthwise_convolution.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "xla/hlo/evaluator/hlo_evaluator.h"
#include "xla/hlo/ir/hlo_computation.h"
#include "xla/hlo/ir/hlo_instruction.h"
#include "xla/hlo/parser/hlo_parser.h"
#include "xla/literal.h"
#include "xla/shape_util.h"

namespace tfipu {
namespace {

struct Case {
  std::string name;
  std::string input, kernel, output;
  std::string attributes;
  bool rewritten = true;
};

std::string Hlo(const Case& c) {
  return absl::StrCat("HloModule m\nENTRY main {\n x = ", c.input, " parameter(0)\n k = ", c.kernel,
                      " parameter(1)\n ROOT y = ", c.output, " convolution(x, k), ", c.attributes, "\n}");
}

xla::Literal Waves(const xla::Shape& shape, double frequency) {
  xla::Literal wide = *xla::Literal::Make(xla::ShapeUtil::ChangeElementType(shape, xla::F64));
  double* data = static_cast<double*>(wide.untyped_data());
  for (std::int64_t i = 0; i < xla::ShapeUtil::ElementsIn(shape); ++i) data[i] = std::sin(frequency * i + 1);
  return *wide.Convert(shape.element_type());
}

bool HasConvolution(const xla::HloModule& module) {
  for (const xla::HloInstruction* instruction : module.entry_computation()->instructions()) {
    if (instruction->opcode() == xla::HloOpcode::kConvolution) return true;
  }
  return false;
}

class DepthwiseConvolutionTest : public ::testing::TestWithParam<Case> {};

TEST_P(DepthwiseConvolutionTest, GivesTheSameNumbers) {
  const Case& c = GetParam();
  auto module = xla::ParseAndReturnUnverifiedModule(Hlo(c));
  ASSERT_TRUE(module.ok()) << module.status();
  std::unique_ptr<xla::HloModule> plain = (*module)->Clone();
  auto changed = DepthwiseConvolutionRewriter().Run(module->get());
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(*changed, c.rewritten);
  EXPECT_EQ(HasConvolution(**module), !c.rewritten);

  const auto parameters = plain->entry_computation()->parameter_instructions();
  std::vector<xla::Literal> arguments;
  arguments.push_back(Waves(parameters[0]->shape(), 0.7));
  arguments.push_back(Waves(parameters[1]->shape(), 1.3));
  auto expected = xla::HloEvaluator().Evaluate(*plain, arguments);
  auto found = xla::HloEvaluator().Evaluate(**module, arguments);
  ASSERT_TRUE(expected.ok()) << expected.status();
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_EQ(found->shape().ToString(), expected->shape().ToString());
  const xla::Literal expected64 = *expected->Convert(xla::F64), found64 = *found->Convert(xla::F64);
  const double tolerance = expected->shape().element_type() == xla::BF16  ? 2e-2
                           : expected->shape().element_type() == xla::F16 ? 3e-3
                                                                          : 1e-5;
  for (std::int64_t i = 0; i < expected64.element_count(); ++i) {
    const double e = static_cast<const double*>(expected64.untyped_data())[i];
    const double f = static_cast<const double*>(found64.untyped_data())[i];
    ASSERT_NEAR(f, e, tolerance * std::max(1.0, std::abs(e))) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Convolutions, DepthwiseConvolutionTest,
    ::testing::Values(
        Case{"same", "f32[2,5,6,3]", "f32[3,3,1,3]", "f32[2,5,6,3]",
             "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, feature_group_count=3"},
        Case{"valid", "f32[2,5,6,3]", "f32[3,2,1,3]", "f32[2,3,5,3]",
             "window={size=3x2}, dim_labels=b01f_01io->b01f, feature_group_count=3"},
        Case{"strides", "f32[1,7,8,4]", "f32[3,3,1,4]", "f32[1,4,4,4]",
             "window={size=3x3 stride=2x2 pad=1_1x0_1}, dim_labels=b01f_01io->b01f, feature_group_count=4"},
        Case{"dilated_kernel", "f32[1,7,8,4]", "f32[2,3,1,4]", "f32[1,5,8,4]",
             "window={size=2x3 pad=0_0x2_2 rhs_dilate=2x2}, dim_labels=b01f_01io->b01f, "
             "feature_group_count=4"},
        Case{"multiplier", "f32[2,5,6,3]", "f32[3,3,1,6]", "f32[2,5,6,6]",
             "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, feature_group_count=3"},
        Case{"negative_padding", "f32[1,6,6,2]", "f32[2,2,1,2]", "f32[1,4,5,2]",
             "window={size=2x2 pad=-1_0x1_-1}, dim_labels=b01f_01io->b01f, feature_group_count=2"},
        Case{"reversed_kernel", "f32[1,5,5,2]", "f32[2,3,1,2]", "f32[1,4,3,2]",
             "window={size=2x3 rhs_reversal=1x1}, dim_labels=b01f_01io->b01f, feature_group_count=2"},
        Case{"features_first", "f32[2,3,5,6]", "f32[6,1,3,3]", "f32[2,6,5,6]",
             "window={size=3x3 pad=1_1x1_1}, dim_labels=bf01_oi01->bf01, feature_group_count=3"},
        Case{"other_order_out", "f32[2,5,6,3]", "f32[3,3,1,6]", "f32[6,6,5,2]",
             "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->f10b, feature_group_count=3"},
        Case{"one_dimension", "f32[2,9,3]", "f32[4,1,3]", "f32[2,6,3]",
             "window={size=4}, dim_labels=b0f_0io->b0f, feature_group_count=3"},
        Case{"three_dimensions", "f32[1,4,4,4,2]", "f32[2,2,2,1,2]", "f32[1,3,3,3,2]",
             "window={size=2x2x2}, dim_labels=b012f_012io->b012f, feature_group_count=2"},
        Case{"float64", "f64[1,5,6,3]", "f64[3,3,1,3]", "f64[1,5,6,3]",
             "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, feature_group_count=3"},
        Case{"float16", "f16[1,5,6,3]", "f16[3,3,1,3]", "f16[1,5,6,3]",
             "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, feature_group_count=3"},
        Case{"bfloat16", "bf16[1,5,6,3]", "bf16[3,3,1,3]", "bf16[1,5,6,3]",
             "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, feature_group_count=3"},
        Case{"not_depthwise", "f32[1,5,6,4]", "f32[3,3,2,4]", "f32[1,5,6,4]",
             "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, feature_group_count=2", false},
        Case{"one_feature", "f32[1,5,6,1]", "f32[3,3,1,4]", "f32[1,5,6,4]",
             "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f", false},
        Case{"transposed", "f32[1,3,3,2]", "f32[2,2,1,2]", "f32[1,4,4,2]",
             "window={size=2x2 lhs_dilate=2x2}, dim_labels=b01f_01io->b01f, feature_group_count=2", false},
        Case{"large_kernel", "f32[1,12,12,2]", "f32[12,12,1,2]", "f32[1,1,1,2]",
             "window={size=12x12}, dim_labels=b01f_01io->b01f, feature_group_count=2", false}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace tfipu
