// The emulator through its public interface, on programs compiled from HLO text.
#include "cc/device/emulator/emulator.h"

#include <stdlib.h>

#include <cmath>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/device/emulator/testing_program.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr float kDummy = -123456;

// The feeds of a step, each float32[4] with one value repeated.
struct Feeds {
  static constexpr float kUntouched = -1;
  AlignedBuffer in{16};
  std::vector<AlignedBuffer> out;
  Step step;

  explicit Feeds(float value, int outfeeds = 1) {
    for (int i = 0; i < 4; ++i) reinterpret_cast<float*>(in.data())[i] = value;
    step.infeeds = {in.span()};
    for (int f = 0; f < outfeeds; ++f) {
      out.emplace_back(16);
      for (int i = 0; i < 4; ++i) reinterpret_cast<float*>(out[f].data())[i] = kUntouched;
      step.outfeeds.push_back(out[f].span());
    }
    step.dummy = value == kDummy;
  }
  std::vector<float> results() const {
    std::vector<float> results;
    for (const AlignedBuffer& buffer : out)
      results.push_back(reinterpret_cast<const float*>(buffer.data())[0]);
    return results;
  }
  float result() const { return results()[0]; }
};

// Gives the steps of a script one after the other, and nothing behind them; `before_next` is called with the
// number of the step that is asked for.
class Script : public StepSource {
 public:
  explicit Script(std::vector<float> values, int outfeeds = 1) {
    for (float value : values) feeds_.emplace_back(value, outfeeds);
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
  Feeds& feeds(int step) { return feeds_[step]; }

 private:
  std::deque<Feeds> feeds_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t next_ = 0, done_ = 0;
  bool interrupted_ = false;
  int runs_ = 0;
};

// y = x OP constant, on float32[4].
std::string Elementwise(absl::string_view operation, float constant) {
  return absl::StrCat("HloModule stage\nENTRY main {\n  x = f32[4] parameter(0)\n  c = f32[] constant(",
                      constant, ")\n  cs = f32[4] broadcast(c), dimensions={}\n  ROOT y = f32[4] ", operation,
                      "(x, cs)\n}");
}

std::vector<float> Range(int count) {
  std::vector<float> values(count);
  for (int i = 0; i < count; ++i) values[i] = i;
  return values;
}

std::vector<std::string> ThreadNames() {
  std::vector<std::string> names;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "comm");
    std::string name;
    if (std::getline(file, name)) names.push_back(name);
  }
  return names;
}

TEST(EmulatorTest, RunsOneStage) {
  std::unique_ptr<Device> device = TestingProgram::OneStage(Elementwise("multiply", 2)).MakeDevice();
  Script script({0, 1, 2, 3, 4});
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_THAT(script.results(), ElementsAre(0, 2, 4, 6, 8));
}

TEST(EmulatorTest, RunsAgainAfterTheSourceEnded) {
  std::unique_ptr<Device> device =
      TestingProgram::Chain({Elementwise("multiply", 2), Elementwise("add", 1)}).MakeDevice();
  for (int i = 0; i < 3; ++i) {
    Script script({5, 6});
    EXPECT_EQ(device->Run(script), std::nullopt);
    EXPECT_THAT(script.results(), ElementsAre(11, 13));
  }
}

TEST(EmulatorTest, TellsWhenARunEnds) {
  TestingProgram program = TestingProgram::OneStage(Elementwise("multiply", 2));
  for (int hold : {0, 2}) {
    program.header.set_hold(hold);
    std::unique_ptr<Device> device = program.MakeDevice();
    Script script(Range(25));
    EXPECT_EQ(device->Run(script), std::nullopt);
    EXPECT_EQ(script.runs(), 2);
    EXPECT_EQ(script.done(), 25);
  }
}

class ScheduleTest : public ::testing::TestWithParam<Schedule> {};

TEST_P(ScheduleTest, GivesEveryStepItsOwnResult) {
  TestingProgram program = TestingProgram::Chain(
      {Elementwise("multiply", 2), Elementwise("add", 3), Elementwise("multiply", 10)}, GetParam());
  for (const std::vector<int>& ipus :
       std::vector<std::vector<int>>{{0, 1, 2}, {0, 1, 0}, {2, 0, 0}, {1, 1, 1}}) {
    for (int s = 0; s < 3; ++s) program.header.mutable_stages(s)->set_ipu(ipus[s]);
    std::unique_ptr<Device> device = program.MakeDevice();
    Script script(Range(500));
    EXPECT_EQ(device->Run(script), std::nullopt);
    const std::vector<float> results = script.results();
    ASSERT_EQ(results.size(), 500);
    for (int i = 0; i < 500; ++i) EXPECT_EQ(results[i], (2 * i + 3) * 10) << i;
    EXPECT_EQ(script.runs(), 50);
  }
}

INSTANTIATE_TEST_SUITE_P(Schedules, ScheduleTest, ::testing::Values(GROUPED, INTERLEAVED, SEQUENTIAL),
                         [](const auto& info) { return Schedule_Name(info.param); });

TEST(EmulatorTest, OverlappedPipelinesHoldAStepUntilFurtherStepsHaveEntered) {
  std::unique_ptr<Device> device =
      TestingProgram::Chain({Elementwise("multiply", 2), Elementwise("add", 1), Elementwise("add", 1)})
          .MakeDevice();
  Script script({1, 2, 3, 4, 5});
  script.before_next = [&](std::size_t entered) {
    const std::size_t leave = entered < 3 ? 0 : entered - 2;
    script.AwaitDone(leave);
    EXPECT_EQ(script.done(), leave) << entered;
  };
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_THAT(script.results(), ElementsAre(4, 6, 8, 10, 12));
}

TEST(EmulatorTest, OneStageMayHoldAsWell) {
  TestingProgram program = TestingProgram::OneStage(Elementwise("multiply", 2));
  program.header.set_hold(2);
  std::unique_ptr<Device> device = program.MakeDevice();
  Script script({1, 2, 3, 4, 5});
  script.before_next = [&](std::size_t entered) { EXPECT_EQ(script.done(), entered < 3 ? 0 : entered - 2); };
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_THAT(script.results(), ElementsAre(2, 4, 6, 8, 10));
}

TEST(EmulatorTest, DummyStepsPushRealOnesOutAndComputeNothing) {
  std::unique_ptr<Device> device =
      TestingProgram::Chain({Elementwise("multiply", 2), Elementwise("add", 1), Elementwise("add", 1)})
          .MakeDevice();
  Script script({1, kDummy, kDummy, kDummy, 7});
  script.before_next = [&](std::size_t entered) {
    const std::size_t leave = entered < 3 ? 0 : entered - 2;
    script.AwaitDone(leave);
    EXPECT_EQ(script.done(), leave) << entered;
  };
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_THAT(script.results(), ElementsAre(4, 16));
  for (int dummy : {1, 2, 3}) EXPECT_EQ(script.feeds(dummy).result(), Feeds::kUntouched);
}

TEST(EmulatorTest, TheEndOfARunLetsAllItsStepsLeave) {
  TestingProgram program = TestingProgram::Chain({Elementwise("multiply", 2), Elementwise("add", 1)});
  program.header.set_iterations(2);
  std::unique_ptr<Device> device = program.MakeDevice();
  Script script({1, 2, 3});
  script.before_next = [&](std::size_t entered) {
    if (entered == 2) script.AwaitDone(2);
  };
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_THAT(script.results(), ElementsAre(3, 5, 7));
  EXPECT_EQ(script.runs(), 1);
}

TEST(EmulatorTest, SequentialPipelinesNeverHoldAndNeedNoThread) {
  std::unique_ptr<Device> device =
      TestingProgram::Chain({Elementwise("multiply", 2), Elementwise("add", 1)}, SEQUENTIAL).MakeDevice();
  EXPECT_THAT(ThreadNames(), Not(Contains("ipu1")));
  Script script({1, 2, 3});
  script.before_next = [&](std::size_t entered) { EXPECT_EQ(script.done(), entered); };
  EXPECT_EQ(device->Run(script), std::nullopt);
}

TEST(EmulatorTest, OverlappedPipelinesHaveAThreadForEachFurtherIpu) {
  TestingProgram program =
      TestingProgram::Chain({Elementwise("multiply", 2), Elementwise("add", 1), Elementwise("add", 1)});
  std::unique_ptr<Device> device = program.MakeDevice();
  EXPECT_THAT(ThreadNames(), AllOf(Not(Contains("ipu0")), Contains("ipu1"), Contains("ipu2")));
  device.reset();
  EXPECT_THAT(ThreadNames(), AllOf(Not(Contains("ipu1")), Not(Contains("ipu2"))));
  // Between two stages of IPU 0 another IPU works: taking batches in and computing cannot be one thread.
  program.header.mutable_stages(2)->set_ipu(0);
  device = program.MakeDevice();
  EXPECT_THAT(ThreadNames(), AllOf(Contains("ipu0"), Contains("ipu1")));
}

// y = x + carried; carried += 1.
constexpr char kCounter[] = R"(
HloModule counter
ENTRY main {
  x = f32[4] parameter(0)
  carried = f32[4] parameter(1)
  one = f32[] constant(1)
  ones = f32[4] broadcast(one), dimensions={}
  y = f32[4] add(x, carried)
  next = f32[4] add(carried, ones)
  ROOT result = (f32[4], f32[4]) tuple(y, next)
})";

// Stage `s` of a chain gets a carried value, which starts as start-up input 0.
void Carry(TestingProgram& program, int s) {
  ExecutableHeader& header = program.header;
  TensorSpec& input = *header.add_startup_inputs();
  input = header.infeeds(0);
  input.set_name("start");
  Carried& carried = *header.add_carried();
  *carried.mutable_spec() = input;
  carried.mutable_initial()->set_source(ValueRef::STARTUP_INPUT);
  carried.mutable_next()->set_source(ValueRef::STAGE_RESULT);
  carried.mutable_next()->set_stage(s);
  carried.mutable_next()->set_index(1);
  header.mutable_stages(s)->add_arguments()->set_source(ValueRef::CARRIED);
}

TEST(EmulatorTest, CarriesValuesFromStepToStepAndStartsAnewInEachRun) {
  for (int stage : {0, 1}) {
    std::vector<std::string> stages(2, Elementwise("multiply", 1));
    stages[stage] = kCounter;
    TestingProgram program = TestingProgram::Chain(stages);
    program.header.set_iterations(4);
    Carry(program, stage);
    const Feeds start(100);
    std::unique_ptr<Device> device = program.MakeDevice({start.in.span()});
    for (int i = 0; i < 2; ++i) {
      Script script({0, 0, 0, 0, 10, 10, 10});
      EXPECT_EQ(device->Run(script), std::nullopt);
      EXPECT_THAT(script.results(), ElementsAre(100, 101, 102, 103, 110, 111, 112));
    }
  }
}

TEST(EmulatorTest, DummyStepsLeaveCarriedValuesAlone) {
  TestingProgram program = TestingProgram::Chain({kCounter, Elementwise("multiply", 1)});
  Carry(program, 0);
  const Feeds start(0);
  std::unique_ptr<Device> device = program.MakeDevice({start.in.span()});
  Script script({0, kDummy, 0, kDummy, kDummy, kDummy, 0});
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_THAT(script.results(), ElementsAre(0, 1, 2));
}

TEST(EmulatorTest, AValueCarriedBackToAnEarlierStageArrivesInTheNextStep) {
  // Stage 0 adds what stage 1 gave in the step before: y = x + y of the step before.
  TestingProgram program = TestingProgram::Chain(
      {R"(HloModule s ENTRY main { x = f32[4] parameter(0) c = f32[4] parameter(1) ROOT y = f32[4] add(x, c) })",
       Elementwise("multiply", 1)});
  Carry(program, 0);
  program.header.mutable_carried(0)->mutable_next()->set_stage(1);
  program.header.mutable_carried(0)->mutable_next()->set_index(0);
  const Feeds start(0);
  std::unique_ptr<Device> device = program.MakeDevice({start.in.span()});
  Script script({1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_THAT(script.results(), ElementsAre(1, 3, 6, 10, 15, 21, 28, 36, 45, 55));
}

TEST(EmulatorTest, OutfeedsMayBeAnyValue) {
  TestingProgram program = TestingProgram::Chain({Elementwise("add", 1), kCounter});
  Carry(program, 1);
  ExecutableHeader& header = program.header;
  for (ValueRef::Source source : {ValueRef::INFEED, ValueRef::STARTUP_INPUT, ValueRef::CARRIED}) {
    header.add_outfeeds()->set_name(ValueRef::Source_Name(source));
    header.add_outfeed_values()->set_source(source);
  }
  header.add_outfeeds()->set_name("between");
  header.add_outfeed_values()->set_source(ValueRef::STAGE_RESULT);
  header.add_outfeeds()->set_name("again");
  *header.add_outfeed_values() = header.outfeed_values(0);
  const Feeds start(100);
  std::unique_ptr<Device> device = program.MakeDevice({start.in.span()});
  Script script({1, 2, 3}, /*outfeeds=*/6);
  EXPECT_EQ(device->Run(script), std::nullopt);
  for (int i = 0; i < 3; ++i) {
    const float x = i + 1, carried = 100 + i;
    EXPECT_THAT(script.feeds(i).results(),
                ElementsAre(x + 1 + carried, x, 100, carried, x + 1, x + 1 + carried));
  }
}

TEST(EmulatorTest, ChecksStartupInputs) {
  TestingProgram program = TestingProgram::OneStage(kCounter);
  Carry(program, 0);
  auto loaded = program.Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const AlignedBuffer small(8);
  EXPECT_THAT((*loaded)->CreateDevice({}).status().message(),
              HasSubstr("Found 0 start-up inputs, expected 1"));
  EXPECT_THAT((*loaded)->CreateDevice({small.span()}).status().message(),
              HasSubstr("Found 8 bytes for start-up input 0 'start', expected 16 for float32[4]"));
}

// ---- floating-point exceptions ----

constexpr char kSquareRoot[] = "HloModule s ENTRY main { x = f32[4] parameter(0) ROOT y = f32[4] sqrt(x) }";
constexpr char kReciprocal[] = R"(HloModule s ENTRY main {
  x = f32[4] parameter(0) c = f32[] constant(1) cs = f32[4] broadcast(c), dimensions={} ROOT y = f32[4] divide(cs, x)
})";

struct ExceptionCase {
  std::string name, hlo;
  float bad;
  std::string reason;
};

class FloatingPointTest : public ::testing::TestWithParam<ExceptionCase> {};

TEST_P(FloatingPointTest, ExceptionEndsTheRunUntilTheDeviceIsReset) {
  const ExceptionCase& c = GetParam();
  for (int stage : {0, 1}) {
    std::vector<std::string> stages(2, Elementwise("multiply", 1));
    stages[stage] = c.hlo;
    TestingProgram program = TestingProgram::Chain(stages);
    program.header.mutable_floating_point()->set_inv(true);
    program.header.mutable_floating_point()->set_div0(true);
    program.header.mutable_floating_point()->set_oflo(true);
    std::unique_ptr<Device> device = program.MakeDevice();

    Script script({1, 1, c.bad, 1, 1});
    script.before_next = [&](std::size_t entered) {
      if (stage == 1 && entered == 3) script.AwaitInterrupt();  // not a step enters while stage 1 fails
    };
    const std::optional<DeviceFailure> failure = device->Run(script);
    ASSERT_TRUE(failure.has_value());
    EXPECT_EQ(failure->kind, DeviceFailure::Kind::kApplicationError);
    EXPECT_THAT(failure->reason,
                HasSubstr(absl::StrCat("in stage ", stage, " 'stage", stage, "': ", c.reason)));
    EXPECT_LE(script.done(), 2);

    Script refused({1});
    EXPECT_TRUE(device->Run(refused).has_value()) << "stays failed until it is reset";
    EXPECT_EQ(refused.done(), 0);
    ASSERT_TRUE(device->Reset().ok());
    Script again({1, 1, 1});
    EXPECT_EQ(device->Run(again), std::nullopt);
    EXPECT_EQ(again.done(), 3);
  }
}

TEST_P(FloatingPointTest, IsNoExceptionUnlessAskedFor) {
  std::unique_ptr<Device> device = TestingProgram::OneStage(GetParam().hlo).MakeDevice();
  Script script({GetParam().bad});
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_EQ(script.done(), 1);
}

INSTANTIATE_TEST_SUITE_P(Exceptions, FloatingPointTest,
                         ::testing::Values(ExceptionCase{"inv", kSquareRoot, -1, "invalid operation (inv)"},
                                           ExceptionCase{"div0", kReciprocal, 0, "division by zero (div0)"},
                                           ExceptionCase{"oflo", Elementwise("multiply", 1e30f), 1e30f,
                                                         "overflow (oflo)"}),
                         [](const auto& info) { return info.param.name; });

TEST(EmulatorTest, MathematicalFunctionsRaiseNoFalseExceptions) {
  for (const char* function : {"exponential", "log", "tanh", "logistic", "rsqrt", "cosine", "log-plus-one",
                               "exponential-minus-one", "cbrt", "erf", "sqrt", "floor"}) {
    // Five elements: the last lies alone in its vector.
    TestingProgram program = TestingProgram::OneStage(
        absl::StrCat("HloModule s ENTRY main { x = f32[4] parameter(0) z = f32[] constant(0.5)\n"
                     "p = f32[5] pad(x, z), padding=0_1 y = f32[5] ",
                     function, "(p) ROOT r = f32[4] slice(y), slice={[0:4]} }"));
    program.header.mutable_floating_point()->set_inv(true);
    program.header.mutable_floating_point()->set_div0(true);
    program.header.mutable_floating_point()->set_oflo(true);
    std::unique_ptr<Device> device = program.MakeDevice();
    Script script({1e-30f, 0.5, 1, 80});
    const std::optional<DeviceFailure> failure = device->Run(script);
    EXPECT_FALSE(failure.has_value()) << function << ": " << failure->reason;
  }
}

// What docs/design/emulator.md says of XLA's own code.
TEST(EmulatorTest, SomeInfinitiesAndNansRaiseNothing) {
  const std::vector<std::pair<const char*, float>> cases = {
      {"y = f32[4] log(x)", 0.f},
      {"y = f32[4] log(x)", -1.f},
      {"b = bf16[4] convert(x) y = f32[4] convert(b)", 3.4e38f},
  };
  for (const auto& [body, value] : cases) {
    TestingProgram program = TestingProgram::OneStage(absl::StrCat(
        "HloModule s ENTRY main { x = f32[4] parameter(0) ", body, " ROOT r = f32[4] copy(y) }"));
    program.header.mutable_floating_point()->set_inv(true);
    program.header.mutable_floating_point()->set_div0(true);
    program.header.mutable_floating_point()->set_oflo(true);
    std::unique_ptr<Device> device = program.MakeDevice();
    Script script({value});
    const std::optional<DeviceFailure> failure = device->Run(script);
    EXPECT_FALSE(failure.has_value()) << body << " " << value << ": " << failure->reason;
    EXPECT_FALSE(std::isfinite(script.feeds(0).result())) << body;
  }
}

TEST(EmulatorTest, WhatAStageMasksIsNoException) {
  TestingProgram program = TestingProgram::OneStage(R"(HloModule s ENTRY main {
    x = f32[4] parameter(0) z = f32[] constant(0) zs = f32[4] broadcast(z), dimensions={}
    r = f32[4] sqrt(x) p = pred[4] compare(x, zs), direction=GE ROOT y = f32[4] select(p, r, zs) })");
  program.header.mutable_floating_point()->set_inv(true);
  std::unique_ptr<Device> device = program.MakeDevice();
  Script script({-4, 4});
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_THAT(script.results(), ElementsAre(0, 2));
}

TEST(EmulatorTest, TakesDenormalNumbersForZero) {
  std::unique_ptr<Device> device =
      TestingProgram::Chain({Elementwise("multiply", 1e-30f), Elementwise("multiply", 1e10f)}).MakeDevice();
  Script script({1e-10f});
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_THAT(script.results(), ElementsAre(0));
}

// ---- faults on demand ----

class ScopedFault {
 public:
  explicit ScopedFault(const char* text) { setenv("TFIPU_EMULATOR_FAULT", text, 1); }
  ~ScopedFault() { unsetenv("TFIPU_EMULATOR_FAULT"); }
};

TEST(EmulatorTest, InjectsFaults) {
  using Kind = DeviceFailure::Kind;
  TestingProgram program = TestingProgram::OneStage(Elementwise("multiply", 2));
  auto loaded = program.Load();
  ASSERT_TRUE(loaded.ok());
  const std::vector<std::tuple<const char*, Kind, const char*>> cases = {
      {"application_error@1", Kind::kApplicationError, ""},
      {"ipu_reset@1", Kind::kRecoverableReset, "IPU_RESET"},
      {"other_recovery@1", Kind::kRecoverableOther, "PARTITION_RESET"},
      {"device_error@1", Kind::kDeviceError, ""},
      {"unknown@1", Kind::kUnknown, ""}};
  for (const auto& [text, kind, action] : cases) {
    const ScopedFault fault(text);
    std::unique_ptr<Device> device = *(*loaded)->CreateDevice({});
    Script script({1, 2, 3});
    const std::optional<DeviceFailure> failure = device->Run(script);
    ASSERT_TRUE(failure.has_value()) << text;
    EXPECT_EQ(failure->kind, kind);
    EXPECT_EQ(failure->recovery_action, action);
    EXPECT_THAT(failure->reason, HasSubstr("injected at step 1"));
    EXPECT_EQ(script.done(), 1);
    ASSERT_TRUE(device->Reset().ok());
    Script again({1, 2, 3});
    EXPECT_EQ(device->Run(again), std::nullopt) << "the fault has passed";
  }
}

TEST(EmulatorTest, RefusesFaultsItCannotRead) {
  auto loaded = TestingProgram::OneStage(Elementwise("multiply", 2)).Load();
  ASSERT_TRUE(loaded.ok());
  for (const char* text : {"unknown", "fire@3", "unknown@x", "unknown@1@2"}) {
    const ScopedFault fault(text);
    EXPECT_THAT((*loaded)->CreateDevice({}).status().message(), HasSubstr(text));
  }
}

// ---- loading ----

TEST(EmulatorTest, LoadsALoopThatZerosWouldNeverEnd) {
  TestingProgram program = TestingProgram::OneStage(R"(HloModule s
    condition { v = (f32[4], f32[4]) parameter(0) s = f32[4] get-tuple-element(v), index=0
      e = f32[1] slice(s), slice={[0:1]} f = f32[] reshape(e) ten = f32[] constant(10)
      ROOT p = pred[] compare(f, ten), direction=LT }
    body { v = (f32[4], f32[4]) parameter(0) s = f32[4] get-tuple-element(v), index=0
      x = f32[4] get-tuple-element(v), index=1 n = f32[4] add(s, x) ROOT t = (f32[4], f32[4]) tuple(n, x) }
    ENTRY main { x = f32[4] parameter(0) t = (f32[4], f32[4]) tuple(x, x)
      w = (f32[4], f32[4]) while(t), condition=condition, body=body
      ROOT y = f32[4] get-tuple-element(w), index=0 })");
  std::unique_ptr<Device> device = program.MakeDevice();
  Script script({3, 4});
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_THAT(script.results(), ElementsAre(12, 12));
}

TEST(EmulatorTest, TensorsMayBeEmpty) {
  TestingProgram program = TestingProgram::ChainOfModules(
      {ParseHlo("HloModule s ENTRY main { x = f32[0,4] parameter(0) ROOT y = f32[0,4] negate(x) }")}, {0, 4});
  std::unique_ptr<Device> device = program.MakeDevice();
  Script script({1, 2});
  for (int i : {0, 1}) {
    script.feeds(i).step.infeeds[0] = {};
    script.feeds(i).step.outfeeds[0] = script.feeds(i).step.outfeeds[0].first(0);
  }
  EXPECT_EQ(device->Run(script), std::nullopt);
  EXPECT_EQ(script.done(), 2);
}

long ResidentKilobytes() {
  std::ifstream file("/proc/self/statm");
  long size = 0, resident = 0;
  file >> size >> resident;
  return resident * 4;
}

TEST(EmulatorTest, UnloadingGivesMemoryAndThreadsBack) {
  const TestingProgram program =
      TestingProgram::Chain({Elementwise("multiply", 2), R"(HloModule s ENTRY main { x = f32[4] parameter(0)
        n = s32[262144] iota(), iota_dimension=0 f = f32[262144] convert(n) s = f32[262144] sine(f)
        m = f32[4,65536] reshape(s) z = f32[65536] broadcast(f32[] constant(1)), dimensions={}
        d = f32[4] dot(m, z), lhs_contracting_dims={1}, rhs_contracting_dims={0} ROOT y = f32[4] add(x, d) })"});
  auto executable = program.Compile();
  ASSERT_TRUE(executable.ok()) << executable.status();
  auto cycle = [&] {
    std::unique_ptr<Device> device = *(*Emulator().Load(*executable))->CreateDevice({});
    Script script({1, 2, 3});
    EXPECT_EQ(device->Run(script), std::nullopt);
  };
  for (int i = 0; i < 30; ++i) cycle();
  const long resident = ResidentKilobytes();
  const std::size_t threads = ThreadNames().size();
  for (int i = 0; i < 200; ++i) cycle();
  EXPECT_EQ(ThreadNames().size(), threads);
  EXPECT_LT(ResidentKilobytes() - resident, 8 * 1024);
}

// Steps of any numbers of rows, each with feeds of its own size.
class RowSteps : public StepSource {
 public:
  RowSteps(const std::vector<int>& rows, int width) {
    for (const int count : rows) {
      in_.emplace_back(count * width * 4);
      out_.emplace_back(count * width * 4);
      for (int i = 0; i < count * width; ++i) Floats(in_.back())[i] = 0.01f * (i % 37) - 0.1f;
      steps_.emplace_back();
      steps_.back().infeeds = {in_.back().span()};
      steps_.back().outfeeds = {out_.back().span()};
      steps_.back().computed_rows = count;
    }
  }
  Step* NextStep() override { return next_ == steps_.size() ? nullptr : &steps_[next_++]; }
  void StepDone(Step*) override { ++done_; }
  void RunEnded() override {}

  int done() const { return done_; }
  const float* out(std::size_t step) const { return Floats(out_[step]); }

 private:
  static float* Floats(const AlignedBuffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }

  std::vector<AlignedBuffer> in_, out_;
  std::vector<Step> steps_;
  std::size_t next_ = 0;
  int done_ = 0;
};

TEST(EmulatorTest, StepsOfFewerRowsRunTheirVariants) {
  for (const Schedule schedule : {SEQUENTIAL, GROUPED}) {
    TestingProgram program =
        TestingProgram::ChainOfModules({MlpHlo(8, {16, 32}), MlpHlo(8, {32, 16}, 2)}, {8, 16}, schedule);
    program.header.set_dynamic_batch(true);
    program.header.mutable_floating_point()->set_inv(true);
    CompileOptions options;
    for (const int rows : {1, 4}) {
      options.row_variants.push_back(
          {static_cast<std::uint32_t>(rows), {MlpHlo(rows, {16, 32}), MlpHlo(rows, {32, 16}, 2)}});
    }
    auto loaded = program.Load(options);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    auto device = (*loaded)->CreateDevice({});
    ASSERT_TRUE(device.ok());
    const std::vector<int> rows = {8, 1, 4, 8, 4, 1, 1};
    RowSteps steps(rows, 16);
    EXPECT_FALSE((*device)->Run(steps).has_value());
    ASSERT_EQ(steps.done(), rows.size());
    for (std::size_t step = 0; step < rows.size(); ++step) {
      for (int i = 0; i < rows[step] * 16; ++i) {
        ASSERT_NEAR(steps.out(step)[i], steps.out(0)[i], 1e-5) << step << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace tfipu
