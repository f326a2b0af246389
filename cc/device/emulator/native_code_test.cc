#include "cc/device/emulator/native_code.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/device/emulator/testing_program.h"
#include "cc/executable/executable.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

using ::testing::HasSubstr;

// Code of a stage from float32[4] to float32[4], and the executable that holds it.
struct Code {
  explicit Code(std::string hlo) : executable(*TestingProgram::OneStage(std::move(hlo)).Compile()) {}
  ConstBuffer bytes() const { return executable->blob(executable->header().stages(0).code()); }
  std::shared_ptr<const Executable> executable;
};

std::string Loop(absl::string_view condition) {
  return absl::StrCat(R"(HloModule s
    condition { v = (s32[], f32[4]) parameter(0) i = s32[] get-tuple-element(v), index=0
      x = f32[4] get-tuple-element(v), index=1 )",
                      condition, R"( }
    body { v = (s32[], f32[4]) parameter(0) i = s32[] get-tuple-element(v), index=0 one = s32[] constant(1)
      x = f32[4] get-tuple-element(v), index=1 j = s32[] add(i, one) s = f32[4] sine(x)
      ROOT t = (s32[], f32[4]) tuple(j, s) }
    ENTRY main { x = f32[4] parameter(0) z = s32[] constant(0) t = (s32[], f32[4]) tuple(z, x)
      w = (s32[], f32[4]) while(t), condition=condition, body=body ROOT y = f32[4] get-tuple-element(w), index=1 })");
}

TEST(NativeCodeTest, ChecksTheSizesOfArgumentsAndResults) {
  const Code code("HloModule s ENTRY main { x = f32[4] parameter(0) ROOT y = f32[4] negate(x) }");
  EXPECT_TRUE(NativeCode::Load(code.bytes(), {16}, {16}).ok());
  EXPECT_THAT(NativeCode::Load(code.bytes(), {16, 8}, {16}).status().message(),
              HasSubstr("The code has 1 arguments of 16 bytes, expected 2 of 16, 8"));
  EXPECT_THAT(NativeCode::Load(code.bytes(), {16}, {32}).status().message(),
              HasSubstr("The code has 1 results of 16 bytes, expected 1 of 32"));
}

TEST(NativeCodeTest, RefusesOtherBytes) {
  const std::string bytes = "no code";
  EXPECT_EQ(
      NativeCode::Load(ConstBuffer(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()), {}, {})
          .status()
          .code(),
      absl::StatusCode::kInvalidArgument);
}

TEST(NativeCodeTest, KnowsWhetherLoopsEnd) {
  const Code counted(Loop("n = s32[] constant(9) ROOT p = pred[] compare(i, n), direction=LT"));
  EXPECT_TRUE((*NativeCode::Load(counted.bytes(), {16}, {16}))->always_ends());
  const Code open(
      Loop("e = f32[1] slice(x), slice={[0:1]} f = f32[] reshape(e) n = f32[] constant(2) "
           "ROOT p = pred[] compare(f, n), direction=LT"));
  EXPECT_FALSE((*NativeCode::Load(open.bytes(), {16}, {16}))->always_ends());
}

}  // namespace
}  // namespace tfipu
