#include "cc/executable/validate.h"

#include <functional>

#include "cc/executable/executable.h"
#include "cc/executable/test_executable.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

using ::testing::HasSubstr;

ExecutableHeader GoodHeader() {
  ExecutableHeader header = TestHeader();
  ExecutableWriter writer;
  AddTestBlobs(header, writer);
  return header;
}

TEST(ValidateTest, GoodHeaderIsAccepted) { EXPECT_EQ(Validate(GoodHeader()), absl::OkStatus()); }

TEST(ValidateTest, EmptyHeaderIsRefused) { EXPECT_FALSE(Validate({}).ok()); }

TEST(ValidateTest, EachContradictionIsNamed) {
  using H = ExecutableHeader;
  struct Case {
    const char* expected;
    std::function<void(H&)> change;
  };
  const std::uint64_t top = ~std::uint64_t{0};
  const Case cases[] = {
      {"target.ipu.type is 7",
       [](H& h) { h.mutable_target()->mutable_ipu()->set_type(static_cast<IpuTarget::Type>(7)); }},
      {"target is of no kind", [](H& h) { h.mutable_target()->clear_ipu(); }},
      {"target.pjrt.platform is empty", [](H& h) { h.mutable_target()->mutable_pjrt(); }},
      {"target.pjrt.plugin.sha256.size is 3",
       [](H& h) {
         h.mutable_target()->mutable_pjrt()->set_platform("cpu");
         h.mutable_target()->mutable_pjrt()->mutable_plugin()->set_sha256("abc");
       }},
      {"target.num_ipus is 0", [](H& h) { h.mutable_target()->set_num_ipus(0); }},
      {"target.num_ipus is 4294967295", [](H& h) { h.mutable_target()->set_num_ipus(~0u); }},
      {"iterations is 0", [](H& h) { h.set_iterations(0); }},
      {"iterations is 18446744073709551615", [=](H& h) { h.set_iterations(top); }},
      {"schedule is 9", [](H& h) { h.set_schedule(static_cast<Schedule>(9)); }},
      {"stages.size is 0", [](H& h) { h.clear_stages(); }},
      {"stages[1].ipu is 2", [](H& h) { h.mutable_stages(1)->set_ipu(2); }},
      {"weights[0].ipu is 2", [](H& h) { h.mutable_weights(0)->set_ipu(2); }},
      {"stages[0].code is missing", [](H& h) { h.mutable_stages(0)->clear_code(); }},
      {"stages[0].temp_size is", [=](H& h) { h.mutable_stages(0)->set_temp_size(top); }},
      {"stages[0].arguments[0].index is 1, expected less than 1, the number of infeeds",
       [](H& h) { h.mutable_stages(0)->mutable_arguments(0)->set_index(1); }},
      {"stages[0].arguments[1].index is 4294967295, expected less than 1, the number of weights",
       [](H& h) { h.mutable_stages(0)->mutable_arguments(1)->set_index(~0u); }},
      {"stages[1].arguments[2].index is 1, expected less than 1, the number of carried values",
       [](H& h) { h.mutable_stages(1)->mutable_arguments(2)->set_index(1); }},
      {"stages[1].arguments[1].index is 5, expected less than 1, the number of start-up inputs",
       [](H& h) { h.mutable_stages(1)->mutable_arguments(1)->set_index(5); }},
      {"stages[0].arguments[0].source is 6",
       [](H& h) { h.mutable_stages(0)->mutable_arguments(0)->set_source(static_cast<ValueRef::Source>(6)); }},
      {"stages[0].arguments[0].stage is 3, expected 0",
       [](H& h) { h.mutable_stages(0)->mutable_arguments(0)->set_stage(3); }},
      {"stages[1].arguments[0].stage is 1, expected less than 1",
       [](H& h) { h.mutable_stages(1)->mutable_arguments(0)->set_stage(1); }},
      {"stages[1].arguments[0].index is 1, expected less than 1, the number of results",
       [](H& h) { h.mutable_stages(1)->mutable_arguments(0)->set_index(1); }},
      {"stages[0].results[0].type is 0", [](H& h) { h.mutable_stages(0)->mutable_results(0)->clear_type(); }},
      {"infeeds[0].type is 7", [](H& h) { h.mutable_infeeds(0)->set_type(static_cast<ElementType>(7)); }},
      {"found dimension -1", [](H& h) { h.mutable_infeeds(0)->set_dims(0, -1); }},
      {"more than 2^63", [](H& h) { h.mutable_infeeds(0)->set_dims(0, std::int64_t{1} << 62); }},
      {"size of infeeds[0]", [](H& h) { h.mutable_infeeds(0)->set_dims(0, std::int64_t{1} << 50); }},
      {"infeeds[0].dims.size is 255",
       [](H& h) {
         for (int i = 0; i < 253; ++i) h.mutable_infeeds(0)->add_dims(1);
       }},
      {"infeeds[0].name is empty", [](H& h) { h.mutable_infeeds(0)->clear_name(); }},
      {"infeeds[1].name is 'x'", [](H& h) { *h.add_infeeds() = h.infeeds(0); }},
      {"startup_inputs[1].name is 'start'", [](H& h) { *h.add_startup_inputs() = h.startup_inputs(0); }},
      {"outfeed_values.size is 0, expected 1", [](H& h) { h.clear_outfeed_values(); }},
      {"outfeed_values[0].stage is 2", [](H& h) { h.mutable_outfeed_values(0)->set_stage(2); }},
      {"the value of outfeed_values[0] is float32[8]",
       [](H& h) { h.mutable_outfeed_values(0)->set_index(1); }},
      {"weights[0].blob is missing", [](H& h) { h.mutable_weights(0)->clear_blob(); }},
      {"weights[0].blob.size is", [](H& h) { h.mutable_weights(0)->mutable_spec()->set_dims(0, 9); }},
      {"carried[0].initial.source is INFEED",
       [](H& h) { h.mutable_carried(0)->mutable_initial()->set_source(ValueRef::INFEED); }},
      {"carried[0].next.source is WEIGHT",
       [](H& h) {
         h.mutable_carried(0)->mutable_next()->set_source(ValueRef::WEIGHT);
         h.mutable_carried(0)->mutable_next()->set_index(0);
         h.mutable_carried(0)->mutable_next()->set_stage(0);
       }},
      {"the value of carried[0].next is float32[4,8], expected float32[8]",
       [](H& h) { h.mutable_carried(0)->mutable_next()->set_index(0); }},
      {"the value of carried[0].initial is float32[8,4096]",
       [](H& h) { h.mutable_carried(0)->mutable_initial()->set_source(ValueRef::WEIGHT); }},
      {"hold is 4", [](H& h) { h.set_hold(4); }},
      {"timeout_us is", [=](H& h) { h.set_timeout_us(top); }},
      {"max_wait_us is", [=](H& h) { h.set_max_wait_us(top); }},
      {"replicas is", [](H& h) { h.set_replicas(~0u); }},
      {"leading dimension of 4",
       [](H& h) {
         h.set_dynamic_batch(true);
         h.mutable_outfeeds(0)->set_dims(0, 5);
         h.mutable_stages(1)->mutable_results(0)->set_dims(0, 5);
       }},
      {"leading dimension of at least 1",
       [](H& h) {
         h.set_dynamic_batch(true);
         h.mutable_infeeds(0)->clear_dims();
       }},
  };
  for (const Case& c : cases) {
    ExecutableHeader header = GoodHeader();
    c.change(header);
    const absl::Status status = Validate(header);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.expected;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.expected));
  }
}

TEST(ValidateTest, RowBatchingWithEqualLeadingDimensionsIsAccepted) {
  ExecutableHeader header = GoodHeader();
  header.set_dynamic_batch(true);
  EXPECT_EQ(Validate(header), absl::OkStatus());
}

// For 4 rows, with variants for 1 and 3.
ExecutableHeader HeaderWithVariants() {
  ExecutableHeader header = GoodHeader();
  header.set_dynamic_batch(true);
  header.clear_carried();
  for (Stage& stage : *header.mutable_stages()) {
    for (ValueRef& argument : *stage.mutable_arguments()) {
      if (argument.source() != ValueRef::CARRIED) continue;
      argument.set_source(ValueRef::STARTUP_INPUT);
      argument.set_index(0);
    }
  }
  for (const int rows : {1, 3}) {
    RowVariant variant;
    variant.set_rows(rows);
    *variant.mutable_stages() = header.stages();
    for (Stage& stage : *variant.mutable_stages()) {
      stage.clear_hlo();
      for (TensorSpec& result : *stage.mutable_results()) {
        if (result.dims_size() > 0 && result.dims(0) == 4) result.set_dims(0, rows);
      }
    }
    *header.add_row_variants() = std::move(variant);
  }
  return header;
}

TEST(ValidateTest, RowVariants) {
  EXPECT_EQ(Validate(HeaderWithVariants()), absl::OkStatus());
  using H = ExecutableHeader;
  const struct {
    const char* expected;
    std::function<void(H&)> change;
  } cases[] = {
      {"row_variants are set", [](H& h) { h.set_dynamic_batch(false); }},
      {"row_variants[0].rows is 0", [](H& h) { h.mutable_row_variants(0)->set_rows(0); }},
      {"row_variants[1].rows is 4", [](H& h) { h.mutable_row_variants(1)->set_rows(4); }},
      {"row_variants[1].rows is 1", [](H& h) { h.mutable_row_variants(1)->set_rows(1); }},
      {"row_variants[0].stages.size is 1",
       [](H& h) { h.mutable_row_variants(0)->mutable_stages()->RemoveLast(); }},
      {"row_variants[0].stages[1].ipu is 0",
       [](H& h) { h.mutable_row_variants(0)->mutable_stages(1)->set_ipu(0); }},
      {"that row_variants[0].stages[1] reads",
       [](H& h) { h.mutable_row_variants(0)->mutable_stages(1)->mutable_arguments()->RemoveLast(); }},
      {"row_variants[0].stages[1].arguments[0] reads another",
       [](H& h) {
         h.mutable_row_variants(0)->mutable_stages(1)->mutable_arguments(0)->set_source(ValueRef::INFEED);
       }},
      {"row_variants[0].stages[0].results.size is",
       [](H& h) { h.mutable_row_variants(0)->mutable_stages(0)->mutable_results()->RemoveLast(); }},
      {"row_variants[0].stages[0].results[0].type is",
       [](H& h) { h.mutable_row_variants(0)->mutable_stages(0)->mutable_results(0)->set_type(INT8); }},
      {"row_variants[1]: stages[0].code is missing",
       [](H& h) { h.mutable_row_variants(1)->mutable_stages(0)->clear_code(); }},
      {"row_variants[1]: the value of outfeed_values[0]",
       [](H& h) {
         for (Stage& stage : *h.mutable_row_variants(1)->mutable_stages()) {
           for (TensorSpec& result : *stage.mutable_results()) result.set_dims(0, 2);
         }
       }},
  };
  for (const auto& [expected, change] : cases) {
    ExecutableHeader header = HeaderWithVariants();
    change(header);
    const absl::Status status = Validate(header);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << expected;
    EXPECT_THAT(std::string(status.message()), HasSubstr(expected));
  }
}

TEST(TensorSpecTest, SizesAndNames) {
  TensorSpec spec;
  spec.set_type(BFLOAT16);
  EXPECT_EQ(ToString(spec), "bfloat16[]");
  EXPECT_EQ(*TensorSize(spec), 2);
  spec.add_dims(4);
  spec.add_dims(2);
  EXPECT_EQ(ToString(spec), "bfloat16[4,2]");
  EXPECT_EQ(*TensorSize(spec), 16);
  // Empty, whatever the other dimensions would have multiplied to.
  spec.add_dims(std::int64_t{1} << 62);
  spec.add_dims(0);
  EXPECT_EQ(*TensorSize(spec), 0);
  for (int type = FLOAT32; type <= UINT64; ++type) {
    if (!ElementType_IsValid(type)) continue;
    EXPECT_GT(ElementSize(static_cast<ElementType>(type)), 0) << type;
    EXPECT_EQ(ElementTypeName(static_cast<ElementType>(type)).find("unknown"), std::string::npos) << type;
  }
  EXPECT_EQ(ElementSize(INVALID), 0);
  EXPECT_EQ(ElementTypeName(static_cast<ElementType>(99)), "unknown type 99");
}

}  // namespace
}  // namespace tfipu
