#include "cc/load/load_driver.h"

#include <cmath>
#include <cstring>

#include "cc/engine/fake_device.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

using ::testing::HasSubstr;

class LoadDriverTest : public ::testing::Test {
 protected:
  std::shared_ptr<Engine> Start(const FakeShape& shape) {
    auto engine = Engine::Start({}, FakeProgramOf(script_, FakeExecutable(shape)), {});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *engine;
  }

  static LoadOptions Short() {
    LoadOptions options;
    options.warm_up = absl::Milliseconds(20);
    options.duration = absl::Milliseconds(100);
    return options;
  }

  std::shared_ptr<FakeScript> script_ = std::make_shared<FakeScript>();
};

TEST_F(LoadDriverTest, ClosedLoopCountsEveryAnswer) {
  auto engine = Start({});
  LoadOptions options = Short();
  options.concurrency = 8;
  const auto result = DriveLoad(*engine, options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->calls, 0);
  EXPECT_EQ(result->failed, 0);
  EXPECT_EQ(result->latency.count, result->calls);
  EXPECT_GT(result->seconds, 0);
  EXPECT_EQ(engine->Statistics().queued, 0);
}

TEST_F(LoadDriverTest, OpenLoopMakesTheCallsThatAreDue) {
  auto engine = Start({});
  LoadOptions options = Short();
  options.warm_up = absl::ZeroDuration();
  options.rate = 2000;
  const auto result = DriveLoad(*engine, options);
  ASSERT_TRUE(result.ok()) << result.status();
  // 200 are expected; a Poisson count is within 6 standard deviations of that, and depends on the seed alone.
  EXPECT_NEAR(static_cast<double>(result->calls), 200, 6 * std::sqrt(200.0));
  const auto again = DriveLoad(*engine, options);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->calls, result->calls);
}

TEST_F(LoadDriverTest, DelayedCallsCountFromWhenTheyWereDue) {
  FakeShape shape;
  auto engine = Start(shape);
  // The device stands still at first: each call waits from its due time to the opening of the gate.
  script_->CloseGate();
  LoadOptions options = Short();
  options.warm_up = absl::ZeroDuration();
  options.duration = absl::Milliseconds(500);
  options.rate = 1000;
  const auto result = DriveLoad(*engine, options, [&](double share) {
    if (share > 0.3) script_->OpenGate();
    return true;
  });
  script_->OpenGate();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GE(result->latency.max, 50'000'000);
}

TEST_F(LoadDriverTest, RowsOfCallsFillTheCompiledBatch) {
  FakeShape shape;
  shape.batch = 8;
  shape.row_batching = true;
  auto engine = Start(shape);
  LoadOptions options = Short();
  options.concurrency = 32;
  options.rows = 3;
  const auto result = DriveLoad(*engine, options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->rows, 0);
  EXPECT_EQ((result->rows + result->padded_rows) % 8, 0);
}

TEST_F(LoadDriverTest, FailuresEndTheLoadAndAreReported) {
  script_->on_step = [](int, const Step&) -> std::optional<DeviceFailure> {
    return DeviceFailure{DeviceFailure::Kind::kDeviceError, "", "burnt"};
  };
  auto engine = Start({});
  const auto result = DriveLoad(*engine, Short());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_THAT(std::string(result->failure.message()), HasSubstr("burnt"));
}

TEST_F(LoadDriverTest, ProgressCanEndTheLoad) {
  auto engine = Start({});
  LoadOptions options;
  options.duration = absl::Hours(1);
  const auto result = DriveLoad(*engine, options, [](double) { return false; });
  EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
}

TEST_F(LoadDriverTest, OptionsAreChecked) {
  auto engine = Start({});
  LoadOptions options = Short();
  options.concurrency = 0;
  EXPECT_EQ(DriveLoad(*engine, options).status().code(), absl::StatusCode::kInvalidArgument);
  options = Short();
  options.rows = 2;
  EXPECT_THAT(std::string(DriveLoad(*engine, options).status().message()), HasSubstr("dynamic_batch"));
}

TEST(RandomTensorTest, ElementsAreNumbersFromZeroToOne) {
  const AlignedBuffer floats = RandomTensor(FLOAT32, 4000, 1);
  for (std::size_t at = 0; at < 4000; at += 4) {
    float value;
    std::memcpy(&value, floats.data() + at, 4);
    EXPECT_TRUE(value >= 0 && value <= 1);
  }
  const AlignedBuffer ints = RandomTensor(INT32, 400, 1);
  for (std::size_t at = 0; at < 400; ++at) EXPECT_EQ(ints.data()[at], std::byte{0});
}

}  // namespace
}  // namespace tfipu
