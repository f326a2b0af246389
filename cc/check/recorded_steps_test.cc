#include "cc/check/recorded_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "cc/engine/fake_device.h"
#include "cc/executable/test_executable.h"

namespace tfipu {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<Program> FakeProgram(const FakeShape& shape) {
  return FakeProgramOf(std::make_shared<FakeScript>(), FakeExecutable(shape));
}

TEST(RecordedStepsTest, TheSameProgramAnswersAsItDid) {
  for (const bool row_batching : {false, true}) {
    const FakeShape shape{.batch = 4, .row_batching = row_batching, .startup_inputs = 1};
    const auto recorded = RecordSteps(FakeProgram(shape), 5, 1);
    ASSERT_TRUE(recorded.ok()) << recorded.status();
    EXPECT_EQ(recorded->steps_size(), 5);
    const std::string path = TestPath("steps");
    ASSERT_EQ(WriteSteps(*recorded, path), absl::OkStatus());
    const auto read = ReadSteps(path);
    ASSERT_TRUE(read.ok()) << read.status();
    const auto comparison = CompareSteps(FakeProgram(shape), *read);
    ASSERT_TRUE(comparison.ok()) << comparison.status();
    EXPECT_EQ(comparison->values, 5 * 4 * (kFakeWidth + 1));
    EXPECT_EQ(comparison->unequal, 0);
    EXPECT_EQ(comparison->largest_difference, 0);
  }
}

TEST(RecordedStepsTest, OtherAnswersAreCounted) {
  auto recorded = *RecordSteps(FakeProgram({}), 3, 1);
  (*recorded.mutable_steps(1)->mutable_outfeeds(0))[0] ^= 1;
  EXPECT_EQ(CompareSteps(FakeProgram({}), recorded)->unequal, 1);
}

TEST(RecordedStepsTest, StepsOfAnotherProgramAreRefused) {
  const auto recorded = *RecordSteps(FakeProgram({}), 1, 1);
  const auto comparison = CompareSteps(FakeProgram({.batch = 2}), recorded);
  EXPECT_EQ(comparison.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(comparison.status().message()), HasSubstr("bytes of infeeds 0"));
  const std::string path = TestPath("no_steps");
  WriteBytes(path, "nonsense");
  EXPECT_EQ(ReadSteps(path).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadSteps(path + ".missing").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace tfipu
