// The emulator through its public interface, on programs compiled from HLO text.
#include "cc/device/emulator/emulator.h"

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

#include "cc/compiler/compiler.h"
#include "cc/device/emulator/testing_program.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A program whose every feed is float32[4].
struct Feeds {
  AlignedBuffer in{16}, out{16};
  Step step;

  explicit Feeds(float value, bool dummy = false) {
    for (int i = 0; i < 4; ++i) reinterpret_cast<float*>(in.data())[i] = value;
    step.infeeds = {in.span()};
    step.outfeeds = {out.span()};
    step.dummy = dummy;
  }
  float result() const { return reinterpret_cast<const float*>(out.data())[0]; }
};

// Gives the steps of a script one after the other, and nothing behind them; `before_next` is called with the
// number of the step that is asked for.
class Script : public StepSource {
 public:
  explicit Script(std::vector<float> values) {
    for (float value : values) feeds_.emplace_back(value, value < 0);
  }
  std::function<void(std::size_t)> before_next;

  Step* NextStep() override {
    if (before_next) before_next(next_);
    std::lock_guard<std::mutex> lock(mutex_);
    if (interrupted_) {
      interrupted_ = false;
      return nullptr;
    }
    return next_ == feeds_.size() ? nullptr : &feeds_[next_++].step;
  }
  void StepDone(Step* step) override {
    std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_EQ(step, &feeds_[done_].step) << "steps leave in order";
    ++done_;
    changed_.notify_all();
  }
  void RunEnded() override { ++runs_; }
  void Interrupt() override {
    std::lock_guard<std::mutex> lock(mutex_);
    interrupted_ = true;
    changed_.notify_all();
  }

  std::size_t done() {
    std::lock_guard<std::mutex> lock(mutex_);
    return done_;
  }
  void AwaitDone(std::size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return done_ >= count; });
  }
  void AwaitInterrupt() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return interrupted_; });
  }
  std::vector<float> results() const {
    std::vector<float> results;
    for (std::size_t i = 0; i < done_; ++i) {
      if (!feeds_[i].step.dummy) results.push_back(feeds_[i].result());
    }
    return results;
  }
  int runs() const { return runs_; }

 private:
  std::deque<Feeds> feeds_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t next_ = 0, done_ = 0;
  bool interrupted_ = false;
  int runs_ = 0;
};

constexpr char kTimesTwo[] = R"(
HloModule times_two
ENTRY main {
  x = f32[4] parameter(0)
  two = f32[] constant(2)
  twos = f32[4] broadcast(two), dimensions={}
  ROOT y = f32[4] multiply(x, twos)
})";

TEST(EmulatorTest, RunsOneStage) {
  const TestingProgram program = TestingProgram::OneStage(kTimesTwo);
  std::unique_ptr<Device> device = program.Device();
  Script script({0, 1, 2, 3, 4});
  EXPECT_FALSE(device->Run(script).has_value());
  EXPECT_THAT(script.results(), ElementsAre(0, 2, 4, 6, 8));
}

}  // namespace
}  // namespace tfipu
