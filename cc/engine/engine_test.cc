#include "cc/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "cc/engine/fake_device.h"
#include "cc/engine/test_call.h"

namespace tfipu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class EngineTest : public ::testing::Test {
 protected:
  std::shared_ptr<Engine> Start(const FakeShape& shape, EngineOptions options = {}) {
    options.name = "E";
    absl::StatusOr<std::shared_ptr<Engine>> engine =
        Engine::Start(std::move(options), FakeProgramOf(script_, FakeExecutable(shape)), {});
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *engine;
  }

  // First values of the rows of a step's infeed x.
  static std::vector<std::int32_t> FirstOfRows(const std::vector<std::int32_t>& x) {
    std::vector<std::int32_t> rows;
    for (std::size_t i = 0; i < x.size(); i += kFakeWidth) rows.push_back(x[i]);
    return rows;
  }

  std::shared_ptr<FakeScript> script_ = std::make_shared<FakeScript>();
};

TEST_F(EngineTest, AnswersACall) {
  auto engine = Start({});
  TestCall call(1, 10);
  EXPECT_GT(engine->Enqueue(call.Make()), 0);
  EXPECT_EQ(call.Await(), absl::OkStatus());
  EXPECT_TRUE(call.right());
}

TEST_F(EngineTest, EachCallIsAnsweredAtItsOwnStepInOrderOfArrival) {
  script_->CloseGate();
  auto engine = Start({.iterations = 3});
  TestCall a(1, 10), b(1, 20), c(1, 30);
  engine->Enqueue(a.Make());
  engine->Enqueue(b.Make());
  engine->Enqueue(c.Make());
  script_->LetThrough(1);
  EXPECT_EQ(a.Await(), absl::OkStatus());
  EXPECT_EQ(b.answers(), 0);
  script_->LetThrough(1);
  EXPECT_EQ(b.Await(), absl::OkStatus());
  EXPECT_EQ(c.answers(), 0);
  script_->LetThrough(1);
  EXPECT_EQ(c.Await(), absl::OkStatus());
  EXPECT_TRUE(a.right() && b.right() && c.right());
}

TEST_F(EngineTest, ProgramIsRunAgainWhenMoreCallsComeThanItHasSteps) {
  auto engine = Start({.iterations = 2});
  for (int i = 0; i < 5; ++i) {
    TestCall call(1, i);
    engine->Enqueue(call.Make());
    EXPECT_EQ(call.Await(), absl::OkStatus());
  }
  engine->Stop();
  EXPECT_EQ(engine->Statistics().runs, 2);
  EXPECT_EQ(engine->Statistics().steps, 5);
}

TEST_F(EngineTest, HighPriorityGoesFirst) {
  script_->CloseGate();
  auto engine = Start({});
  TestCall first(1, 0), normal(1, 10), high(1, 20);
  engine->Enqueue(first.Make());
  script_->AwaitEntered(1);
  engine->Enqueue(normal.Make());
  Call call = high.Make();
  call.priority = Priority::kHigh;
  engine->Enqueue(std::move(call));
  script_->OpenGate();
  EXPECT_EQ(normal.Await(), absl::OkStatus());
  EXPECT_EQ(high.Await(), absl::OkStatus());
  ASSERT_EQ(script_->seen().size(), 3);
  EXPECT_EQ(script_->seen()[1][0], 20);
  EXPECT_EQ(script_->seen()[2][0], 10);
}

TEST_F(EngineTest, AlignedBuffersAreUsedInPlaceAndOthersCopied) {
  auto engine = Start({.batch = 4});
  TestCall aligned(4, 1), shifted(4, 2, 4);
  engine->Enqueue(aligned.Make());
  EXPECT_EQ(aligned.Await(), absl::OkStatus());
  engine->Enqueue(shifted.Make());
  EXPECT_EQ(shifted.Await(), absl::OkStatus());
  EXPECT_TRUE(aligned.right() && shifted.right());
  EXPECT_EQ(script_->infeed_data()[0], aligned.x());
  EXPECT_EQ(script_->outfeed_data()[0], aligned.y());
  EXPECT_NE(script_->infeed_data()[1], shifted.x());
  EXPECT_TRUE(IsAligned(script_->infeed_data()[1]));
  EXPECT_TRUE(IsAligned(script_->outfeed_data()[1]));
}

TEST_F(EngineTest, BuffersOfTheWrongSizeAreRefused) {
  auto engine = Start({.batch = 2});
  TestCall call(3, 1);
  EXPECT_EQ(engine->Enqueue(call.Make()), 0);
  EXPECT_EQ(call.Await().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(call.Await().message(), HasSubstr("'x'"));

  TestCall other(2, 1);
  Call bad = other.Make();
  bad.outfeeds.pop_back();
  engine->Enqueue(std::move(bad));
  EXPECT_EQ(other.Await().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(script_->entered(), 0);
}

TEST_F(EngineTest, RowsThatDoNotFitTheirBuffersAreRefused) {
  auto engine = Start({.batch = 2, .row_batching = true});
  for (std::int64_t rows : {std::int64_t{-1}, std::int64_t{2}, std::int64_t{4}, INT64_MAX}) {
    TestCall call(3, 1);
    Call wrong = call.Make();
    wrong.rows = rows;
    engine->Enqueue(std::move(wrong));
    EXPECT_EQ(call.Await().code(), absl::StatusCode::kInvalidArgument) << rows;
  }
}

TEST_F(EngineTest, NoRowsAreDoneAtOnce) {
  script_->CloseGate();
  auto engine = Start({.batch = 2, .row_batching = true});
  TestCall call(0, 1);
  engine->Enqueue(call.Make());
  EXPECT_EQ(call.answers(), 1);
  EXPECT_EQ(call.Await(), absl::OkStatus());
  script_->OpenGate();
}

TEST_F(EngineTest, RowsOfWaitingCallsArePackedInOrderOfArrivalAndTheRestIsPadded) {
  script_->CloseGate();
  auto engine = Start({.batch = 4, .row_batching = true});
  TestCall first(4, 0), a(1, 100), b(2, 200), c(3, 300);
  engine->Enqueue(first.Make());
  script_->AwaitEntered(1);
  engine->Enqueue(a.Make());
  engine->Enqueue(b.Make());
  engine->Enqueue(c.Make());
  script_->LetThrough(2);
  EXPECT_EQ(a.Await(), absl::OkStatus());
  EXPECT_EQ(b.Await(), absl::OkStatus());
  EXPECT_EQ(c.answers(), 0);  // its other rows are in the third step
  script_->OpenGate();
  EXPECT_EQ(c.Await(), absl::OkStatus());
  EXPECT_TRUE(first.right() && a.right() && b.right() && c.right());
  ASSERT_EQ(script_->seen().size(), 3);
  EXPECT_THAT(FirstOfRows(script_->seen()[1]), ElementsAre(100, 200, 203, 300));
  EXPECT_THAT(FirstOfRows(script_->seen()[2]),
              ElementsAre(303, 306, 306, 306));  // padding repeats the last row
  engine->Stop();
  const EngineStatistics statistics = engine->Statistics();
  EXPECT_EQ(statistics.calls, 4);
  EXPECT_EQ(statistics.steps, 3);
  EXPECT_EQ(statistics.rows, 10);
  EXPECT_EQ(statistics.padded_rows, 2);
  EXPECT_EQ(statistics.fill.count, 3);
  EXPECT_EQ(statistics.queue_time.count, 4);
  EXPECT_EQ(statistics.call_time.count, 4);
  EXPECT_EQ(statistics.device_time.count, 3);
}

TEST_F(EngineTest, CallsLargerThanTheBatchAreSplitInPlace) {
  // 16 rows of 12 bytes: every step starts aligned.
  auto engine = Start({.batch = 16, .row_batching = true});
  TestCall call(40, 5);
  engine->Enqueue(call.Make());
  EXPECT_EQ(call.Await(), absl::OkStatus());
  EXPECT_TRUE(call.right());
  ASSERT_EQ(script_->entered(), 3);
  EXPECT_EQ(script_->infeed_data()[0], call.x());
  EXPECT_EQ(script_->outfeed_data()[0], call.y());
  EXPECT_EQ(script_->infeed_data()[1], static_cast<const std::byte*>(call.x()) + 16 * kFakeWidth * 4);
}

TEST_F(EngineTest, RowsWaitForCompanyNoLongerThanTheyMay) {
  auto engine = Start({.batch = 2, .row_batching = true}, {.max_wait = absl::Hours(1)});
  TestCall a(1, 1), b(1, 2), c(1, 3);
  engine->Enqueue(a.Make());
  engine->Enqueue(b.Make());  // the batch is full: nobody waits for an hour
  EXPECT_EQ(a.Await(), absl::OkStatus());
  EXPECT_EQ(b.Await(), absl::OkStatus());
  EXPECT_EQ(script_->entered(), 1);
  engine->Enqueue(c.Make());
  engine->Stop();
  EXPECT_EQ(c.Await().code(), absl::StatusCode::kCancelled);

  auto impatient = Start({.batch = 2, .row_batching = true}, {.max_wait = absl::Microseconds(100)});
  TestCall alone(1, 4);
  impatient->Enqueue(alone.Make());
  EXPECT_EQ(alone.Await(), absl::OkStatus());
}

TEST_F(EngineTest, StalledDeviceIsPushedByAsManyDummiesAsItHolds) {
  auto engine = Start({.hold = 2}, {.timeout = absl::Microseconds(200)});
  TestCall a(1, 1), b(1, 2);
  engine->Enqueue(a.Make());
  EXPECT_EQ(a.Await(), absl::OkStatus());
  engine->Enqueue(b.Make());
  EXPECT_EQ(b.Await(), absl::OkStatus());
  EXPECT_TRUE(a.right() && b.right());
  engine->Stop();
  const EngineStatistics statistics = engine->Statistics();
  EXPECT_EQ(statistics.steps, 2);
  EXPECT_EQ(statistics.rows, 2);
  EXPECT_EQ(statistics.dummy_steps, 4);
  EXPECT_EQ(statistics.stalls, 2);
  EXPECT_EQ(statistics.calls, 2);
}

TEST_F(EngineTest, RealCallsPushAStalledDeviceWithoutDummies) {
  auto engine = Start({.hold = 1}, {.timeout = absl::Hours(1)});
  TestCall a(1, 1), b(1, 2);
  engine->Enqueue(a.Make());
  script_->AwaitEntered(1);
  EXPECT_EQ(a.answers(), 0);
  engine->Enqueue(b.Make());
  EXPECT_EQ(a.Await(), absl::OkStatus());
  EXPECT_EQ(engine->Statistics().dummy_steps, 0);
  engine->Stop();  // the device finishes what it holds
  EXPECT_EQ(b.Await(), absl::OkStatus());
  EXPECT_TRUE(b.right());
}

TEST_F(EngineTest, IdleDeviceGetsNoDummies) {
  auto engine = Start({.hold = 1}, {.timeout = absl::ZeroDuration()});
  TestCall a(1, 1);
  engine->Enqueue(a.Make());
  EXPECT_EQ(a.Await(), absl::OkStatus());
  engine->Stop();
  EXPECT_EQ(script_->entered(), 2);
}

TEST_F(EngineTest, ExpiredCallCostsNoDeviceTime) {
  script_->CloseGate();
  auto engine = Start({});
  TestCall first(1, 1), late(1, 2), last(1, 3), past(1, 4);
  engine->Enqueue(first.Make());
  script_->AwaitEntered(1);
  Call call = late.Make();
  call.deadline = absl::Now() + absl::Milliseconds(20);
  engine->Enqueue(std::move(call));
  engine->Enqueue(last.Make());
  // Answered while the device is still busy with the first.
  EXPECT_EQ(late.Await().code(), absl::StatusCode::kDeadlineExceeded);
  call = past.Make();
  call.deadline = absl::Now() - absl::Seconds(1);
  engine->Enqueue(std::move(call));
  EXPECT_EQ(past.Await().code(), absl::StatusCode::kDeadlineExceeded);
  script_->OpenGate();
  EXPECT_EQ(last.Await(), absl::OkStatus());
  EXPECT_EQ(script_->entered(), 2);
  EXPECT_EQ(engine->Statistics().expired, 2);
}

TEST_F(EngineTest, EarlierDeadlinesOvertakeLaterOnes) {
  script_->CloseGate();
  auto engine = Start({});
  TestCall first(1, 1), slow(1, 2), quick(1, 3);
  engine->Enqueue(first.Make());
  script_->AwaitEntered(1);
  Call call = slow.Make();
  call.deadline = absl::Now() + absl::Hours(1);
  engine->Enqueue(std::move(call));
  call = quick.Make();
  call.deadline = absl::Now() + absl::Milliseconds(5);
  engine->Enqueue(std::move(call));
  EXPECT_EQ(quick.Await().code(), absl::StatusCode::kDeadlineExceeded);
  script_->OpenGate();
  EXPECT_EQ(slow.Await(), absl::OkStatus());
}

TEST_F(EngineTest, CancelTakesAWaitingCallOut) {
  script_->CloseGate();
  auto engine = Start({});
  TestCall first(1, 1), second(1, 2), third(1, 3);
  const CallId inside = engine->Enqueue(first.Make());
  script_->AwaitEntered(1);
  const CallId waiting = engine->Enqueue(second.Make());
  const CallId other = engine->Enqueue(third.Make());
  EXPECT_FALSE(engine->Cancel(inside));
  EXPECT_TRUE(engine->Cancel(waiting));
  EXPECT_EQ(second.answers(), 1);
  EXPECT_EQ(second.Await().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(engine->Cancel(waiting));
  EXPECT_FALSE(engine->Cancel(0));
  EXPECT_FALSE(engine->Cancel(other + 1));
  script_->OpenGate();
  EXPECT_EQ(third.Await(), absl::OkStatus());
  EXPECT_EQ(script_->entered(), 2);
  EXPECT_EQ(engine->Statistics().cancelled, 1);
}

TEST_F(EngineTest, FullQueueRefusesCalls) {
  script_->CloseGate();
  auto engine = Start({}, {.max_queued_calls = 1});
  TestCall inside(1, 1), waiting(1, 2), refused(1, 3), later(1, 4);
  engine->Enqueue(inside.Make());
  script_->AwaitEntered(1);
  engine->Enqueue(waiting.Make());
  EXPECT_EQ(engine->Statistics().queued, 1);
  engine->Enqueue(refused.Make());
  EXPECT_EQ(refused.Await().code(), absl::StatusCode::kResourceExhausted);
  script_->OpenGate();
  EXPECT_EQ(waiting.Await(), absl::OkStatus());
  engine->Enqueue(later.Make());
  EXPECT_EQ(later.Await(), absl::OkStatus());
  EXPECT_EQ(engine->Statistics().rejected, 1);
  EXPECT_EQ(engine->Statistics().queued, 0);
}

class EngineFailureTest : public EngineTest {
 protected:
  // The first step fails.
  void FailWith(DeviceFailure::Kind kind, const std::string& action) {
    script_->on_step = [=](int step, const Step&) -> std::optional<DeviceFailure> {
      if (step > 0) return std::nullopt;
      return DeviceFailure{kind, action, "oflo in stage 'body'"};
    };
  }
};

TEST_F(EngineFailureTest, RecoverableFailureFailsWhatIsEnqueuedAndResets) {
  for (const auto& [kind, action] : {std::pair(DeviceFailure::Kind::kApplicationError, ""),
                                     std::pair(DeviceFailure::Kind::kRecoverableReset, "IPU_RESET")}) {
    for (bool other_thread : {false, true}) {
      script_ = std::make_shared<FakeScript>();
      script_->finish_in_other_thread = other_thread;
      FailWith(kind, action);
      script_->CloseGate();
      auto engine = Start({.hold = other_thread ? 1 : 0}, {.timeout = absl::Milliseconds(1)});
      TestCall inside(1, 1), waiting(1, 2), later(1, 3);
      engine->Enqueue(inside.Make());
      script_->AwaitEntered(1);
      engine->Enqueue(waiting.Make());
      script_->OpenGate();
      EXPECT_EQ(inside.Await().code(), absl::StatusCode::kInternal);
      EXPECT_THAT(inside.Await().message(), HasSubstr("application_runtime_error"));
      EXPECT_THAT(inside.Await().message(), HasSubstr("IPU_RESET"));
      EXPECT_THAT(inside.Await().message(), HasSubstr("oflo in stage 'body'"));
      waiting.Await().IgnoreError();
      engine->Enqueue(later.Make());
      EXPECT_EQ(later.Await(), absl::OkStatus());
      EXPECT_TRUE(later.right());
      EXPECT_EQ(engine->Statistics().resets, 1);
      EXPECT_TRUE(inside.untouched());
    }
  }
}

TEST_F(EngineFailureTest, CallsInTheQueueFailWithTheDevice) {
  FailWith(DeviceFailure::Kind::kApplicationError, "");
  script_->CloseGate();
  auto engine = Start({.batch = 2, .row_batching = true});
  TestCall inside(3, 1), waiting(1, 2);  // the first is inside in part
  engine->Enqueue(inside.Make());
  script_->AwaitEntered(1);
  engine->Enqueue(waiting.Make());
  script_->OpenGate();
  EXPECT_EQ(inside.Await().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(waiting.Await().code(), absl::StatusCode::kInternal);
  engine->Stop();
  EXPECT_EQ(script_->entered(), 1);
  EXPECT_EQ(engine->Statistics().failed, 2);
}

TEST_F(EngineFailureTest, OtherFailuresStay) {
  for (const auto& [kind, code] :
       {std::pair(DeviceFailure::Kind::kRecoverableOther, absl::StatusCode::kInternal),
        std::pair(DeviceFailure::Kind::kDeviceError, absl::StatusCode::kInternal),
        std::pair(DeviceFailure::Kind::kUnknown, absl::StatusCode::kUnknown)}) {
    auto script = std::make_shared<FakeScript>();
    script->on_step = [kind = kind](int, const Step&) {
      return DeviceFailure{kind, "PARTITION_RESET", "link down"};
    };
    auto engine = Engine::Start({"E"}, FakeProgramOf(script, FakeExecutable({.replicas = 2})), {});
    ASSERT_TRUE(engine.ok());
    TestCall first(1, 1), second(1, 2);
    (*engine)->Enqueue(first.Make());
    EXPECT_EQ(first.Await().code(), code);
    EXPECT_THAT(first.Await().message(), HasSubstr("link down"));
    (*engine)->Enqueue(second.Make());
    EXPECT_EQ(second.Await(), first.Await());
    EXPECT_EQ(script->resets(), 0);
    (*engine)->Stop();
  }
}

TEST_F(EngineFailureTest, FailedResetStays) {
  FailWith(DeviceFailure::Kind::kApplicationError, "");
  script_->on_reset = [] { return absl::UnavailableError("no answer"); };
  auto engine = Start({});
  TestCall first(1, 1), second(1, 2);
  engine->Enqueue(first.Make());
  EXPECT_EQ(first.Await().code(), absl::StatusCode::kInternal);
  engine->Enqueue(second.Make());
  EXPECT_EQ(second.Await().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(second.Await().message(), HasSubstr("no answer"));
}

TEST_F(EngineFailureTest, DeviceThatEndsByItselfIsAnUnknownError) {
  script_->leave_early = true;
  auto engine = Start({});
  TestCall call(1, 1);
  engine->Enqueue(call.Make());
  EXPECT_EQ(call.Await().code(), absl::StatusCode::kUnknown);
}

TEST_F(EngineTest, StopFailsWhatWaitsAndFinishesWhatIsInside) {
  script_->CloseGate();
  auto engine = Start({});
  TestCall inside(1, 1), waiting(1, 2), late(1, 3);
  engine->Enqueue(inside.Make());
  script_->AwaitEntered(1);
  engine->Enqueue(waiting.Make());
  std::thread stopper([&] { engine->Stop(); });
  EXPECT_EQ(waiting.Await().code(), absl::StatusCode::kCancelled);
  engine->Enqueue(late.Make());
  EXPECT_EQ(late.Await().code(), absl::StatusCode::kCancelled);
  script_->OpenGate();
  stopper.join();
  engine->Stop();
  EXPECT_EQ(inside.Await(), absl::OkStatus());
  EXPECT_TRUE(inside.right());
  EXPECT_EQ(script_->destroyed(), 1);
}

TEST_F(EngineTest, MayBeDroppedByTheAnswerOfItsLastCall) {
  auto engine = Start({.replicas = 2});
  TestCall call(1, 1);
  Call made = call.Make();
  Engine* raw = engine.get();
  made.done = [&, done = std::move(made.done)](absl::Status status) {
    engine.reset();
    done(std::move(status));
  };
  raw->Enqueue(std::move(made));
  EXPECT_EQ(call.Await(), absl::OkStatus());
}

TEST_F(EngineTest, ReplicasWorkAtTheSameTime) {
  script_->CloseGate();
  auto engine = Start({.replicas = 3});
  EXPECT_EQ(script_->devices(), 3);
  TestCall a(1, 1), b(1, 2), c(1, 3);
  engine->Enqueue(a.Make());
  engine->Enqueue(b.Make());
  engine->Enqueue(c.Make());
  script_->AwaitEntered(3);
  script_->OpenGate();
  EXPECT_EQ(a.Await(), absl::OkStatus());
  EXPECT_EQ(b.Await(), absl::OkStatus());
  EXPECT_EQ(c.Await(), absl::OkStatus());
  EXPECT_TRUE(a.right() && b.right() && c.right());
  engine->Stop();
  EXPECT_EQ(script_->destroyed(), 3);
}

TEST_F(EngineTest, OneCallIsSplitOverReplicas) {
  script_->CloseGate();
  auto engine = Start({.batch = 2, .row_batching = true, .replicas = 2});
  TestCall call(4, 1);
  engine->Enqueue(call.Make());
  script_->AwaitEntered(2);
  script_->OpenGate();
  EXPECT_EQ(call.Await(), absl::OkStatus());
  EXPECT_TRUE(call.right());
}

TEST_F(EngineTest, FewRowsWaitForTheDeviceThatRunsRatherThanTakeAnother) {
  script_->CloseGate();
  auto engine = Start({.batch = 4, .row_batching = true, .replicas = 2});
  TestCall alone(1, 1), few(2, 2);
  engine->Enqueue(alone.Make());
  script_->AwaitEntered(1);
  engine->Enqueue(few.Make());
  EXPECT_EQ(engine->Statistics().queued, 1);
  // With these they fill a step, and the second device takes it.
  TestCall more(2, 3);
  engine->Enqueue(more.Make());
  script_->AwaitEntered(2);
  EXPECT_EQ(engine->Statistics().queued, 0);
  // What waits behind both is taken by the one that is done next.
  TestCall last(1, 4);
  engine->Enqueue(last.Make());
  EXPECT_EQ(engine->Statistics().queued, 1);
  script_->OpenGate();
  for (TestCall* call : {&alone, &few, &more, &last}) {
    EXPECT_EQ(call->Await(), absl::OkStatus());
    EXPECT_TRUE(call->right());
  }
  EXPECT_EQ(engine->Statistics().steps, 3);
}

TEST_F(EngineTest, CallsAreToldHowLongTheyWaitedForADevice) {
  script_->CloseGate();
  auto engine = Start({});
  TestCall first(1, 1), second(1, 2);
  absl::Duration waited;
  engine->Enqueue(first.Make());
  script_->AwaitEntered(1);
  Call call = second.Make();
  call.waited = &waited;
  engine->Enqueue(std::move(call));
  script_->OpenGate();
  EXPECT_EQ(second.Await(), absl::OkStatus());
  EXPECT_GT(waited, absl::ZeroDuration());
  EXPECT_EQ(first.Await(), absl::OkStatus());
}

TEST_F(EngineTest, WaitingForCompanyIsNoWaitForADevice) {
  auto engine = Start({.batch = 4, .row_batching = true}, {.max_wait = absl::Microseconds(50)});
  TestCall alone(1, 1);
  absl::Duration waited;
  Call call = alone.Make();
  call.waited = &waited;
  engine->Enqueue(std::move(call));
  EXPECT_EQ(alone.Await(), absl::OkStatus());
  EXPECT_EQ(waited, absl::ZeroDuration());
}

TEST_F(EngineTest, FewRowsAreComputedByTheSmallestVariantThatHoldsThem) {
  auto engine = Start({.batch = 8, .row_batching = true, .row_variants = {1, 4}});
  std::vector<std::unique_ptr<TestCall>> calls;
  for (const int rows : {1, 3, 4, 5, 8, 9}) {
    calls.push_back(std::make_unique<TestCall>(rows, 100 * rows));
    engine->Enqueue(calls.back()->Make());
    EXPECT_EQ(calls.back()->Await(), absl::OkStatus());
    EXPECT_TRUE(calls.back()->right()) << rows;
  }
  std::vector<std::size_t> computed;
  for (const auto& x : script_->seen()) computed.push_back(x.size() / kFakeWidth);
  EXPECT_THAT(computed, ElementsAre(1, 4, 4, 8, 8, 8, 1));
  EXPECT_THAT(FirstOfRows(script_->seen()[1]), ElementsAre(300, 303, 306, 306));
  // A call that is as large as a variant is used in place.
  EXPECT_EQ(script_->infeed_data()[2], calls[2]->x());
  EXPECT_EQ(script_->outfeed_data()[2], calls[2]->y());
  engine->Stop();
  const EngineStatistics statistics = engine->Statistics();
  EXPECT_EQ(statistics.rows, 30);
  EXPECT_EQ(statistics.padded_rows, 4);
  EXPECT_EQ(statistics.fill.max, 100);
}

TEST_F(EngineTest, FewRowsTakeAFreeDeviceWhereAVariantHoldsThem) {
  script_->CloseGate();
  auto engine = Start({.batch = 8, .row_batching = true, .row_variants = {2}, .replicas = 3});
  TestCall alone(1, 1), few(2, 2), more(3, 3);
  engine->Enqueue(alone.Make());
  script_->AwaitEntered(1);
  engine->Enqueue(few.Make());
  script_->AwaitEntered(2);
  // These would be padded to the whole batch.
  engine->Enqueue(more.Make());
  EXPECT_EQ(engine->Statistics().queued, 1);
  script_->OpenGate();
  for (TestCall* call : {&alone, &few, &more}) {
    EXPECT_EQ(call->Await(), absl::OkStatus());
    EXPECT_TRUE(call->right());
  }
}

TEST_F(EngineTest, ReplicasAreAutomaticWhereStepsAreIndependent) {
  const auto devices = [](FakeShape shape) {
    shape.replicas = 0;
    auto script = std::make_shared<FakeScript>();
    auto engine = Engine::Start({.name = "E", .automatic_replicas = 3},
                                FakeProgramOf(script, FakeExecutable(shape)), {});
    EXPECT_TRUE(engine.ok());
    return script->devices();
  };
  EXPECT_EQ(devices({}), 3);
  EXPECT_EQ(devices({.batch = 4, .row_batching = true}), 3);
  EXPECT_EQ(devices({.hold = 1}), 1);
  // An executable's own number counts.
  EXPECT_TRUE(Engine::Start({.name = "E", .automatic_replicas = 3},
                            FakeProgramOf(script_, FakeExecutable({.replicas = 2})), {})
                  .ok());
  EXPECT_EQ(script_->devices(), 2);
}

TEST_F(EngineTest, CallerRunsAFreeDeviceItself) {
  auto engine = Start({.batch = 2, .row_batching = true});
  TestCall call(5, 1);
  Call made = call.Make();
  std::thread::id answered_in;
  made.done = [&, done = std::move(made.done)](absl::Status status) {
    answered_in = std::this_thread::get_id();
    done(std::move(status));
  };
  engine->Add(std::move(made));
  engine->RunHere(Engine::Patience::kAny);
  EXPECT_EQ(call.answers(), 1);
  EXPECT_EQ(call.Await(), absl::OkStatus());
  EXPECT_TRUE(call.right());
  EXPECT_EQ(answered_in, std::this_thread::get_id());
}

TEST_F(EngineTest, CallThatFindsTheDeviceTakenIsRunByTheEngine) {
  script_->CloseGate();
  auto engine = Start({});
  TestCall first(1, 1), second(1, 2);
  std::thread caller([&] {
    Call made = first.Make();
    engine->Add(std::move(made));
    engine->RunHere(Engine::Patience::kAny);
  });
  script_->AwaitEntered(1);
  Call made = second.Make();
  engine->Add(std::move(made));
  engine->RunHere(Engine::Patience::kAny);
  EXPECT_EQ(second.answers(), 0);
  script_->OpenGate();
  EXPECT_EQ(second.Await(), absl::OkStatus());
  caller.join();
  EXPECT_TRUE(first.right() && second.right());
}

// The rows that are left over wait for company when the caller's thread has run the full batch.
TEST_F(EngineTest, CallerDoesNotStayForRowsThatWait) {
  auto engine = Start({.batch = 2, .row_batching = true}, {.max_wait = absl::Hours(1)});
  TestCall call(3, 1), company(1, 2);
  Call made = call.Make();
  engine->Add(std::move(made));
  engine->RunHere(Engine::Patience::kAny);
  EXPECT_EQ(call.answers(), 0);
  made = company.Make();
  engine->Add(std::move(made));
  engine->RunHere(Engine::Patience::kAny);
  EXPECT_EQ(call.Await(), absl::OkStatus());
  EXPECT_EQ(company.Await(), absl::OkStatus());
  EXPECT_TRUE(call.right() && company.right());
}

TEST_F(EngineTest, MayBeDroppedWhileACallerRunsItsDevice) {
  auto engine = Start({.replicas = 2});
  TestCall call(1, 1);
  Call made = call.Make();
  Engine* raw = engine.get();
  made.done = [&, done = std::move(made.done)](absl::Status status) {
    engine.reset();
    done(std::move(status));
  };
  raw->Add(std::move(made));
  raw->RunHere(Engine::Patience::kAny);
  EXPECT_EQ(call.Await(), absl::OkStatus());
  EXPECT_EQ(script_->destroyed(), 2);
}

// A device that carries values, or holds steps back, is the engine's alone.
TEST_F(EngineTest, CallerDoesNotRunADeviceThatHoldsSteps) {
  auto engine = Start({.hold = 1}, {.timeout = absl::Microseconds(100)});
  TestCall call(1, 1);
  Call made = call.Make();
  std::thread::id answered_in;
  made.done = [&, done = std::move(made.done)](absl::Status status) {
    answered_in = std::this_thread::get_id();
    done(std::move(status));
  };
  engine->Add(std::move(made));
  engine->RunHere(Engine::Patience::kAny);
  EXPECT_EQ(call.Await(), absl::OkStatus());
  EXPECT_NE(answered_in, std::this_thread::get_id());
}

TEST_F(EngineTest, CallsThatAreAddedShareAStep) {
  auto engine = Start({.batch = 4, .row_batching = true});
  TestCall a(1, 1), b(2, 10), c(1, 20);
  for (TestCall* call : {&a, &b, &c}) EXPECT_GT(engine->Add(call->Make()), 0);
  EXPECT_EQ(engine->Statistics().queued, 3);
  EXPECT_EQ(script_->entered(), 0);
  engine->RunHere(Engine::Patience::kAny);
  for (TestCall* call : {&a, &b, &c}) {
    EXPECT_EQ(call->answers(), 1);
    EXPECT_TRUE(call->right());
  }
  EXPECT_EQ(engine->Statistics().steps, 1);
}

TEST_F(EngineTest, CallsThatAreAddedAreRunByTheEngineWhenItIsWoken) {
  auto engine = Start({});
  TestCall call(1, 1);
  engine->Add(call.Make());
  engine->Wake();
  EXPECT_EQ(call.Await(), absl::OkStatus());
}

// How long a step takes is not known before there was one: that is for the engine's thread to find out.
TEST_F(EngineTest, CallerOfLittlePatienceRunsOnlyWhatIsKnownToBeShort) {
  auto engine = Start({});
  const auto answered_here = [&] {
    TestCall call(1, 1);
    Call made = call.Make();
    bool here = false;
    made.done = [&, me = std::this_thread::get_id(), done = std::move(made.done)](absl::Status status) {
      here = std::this_thread::get_id() == me;
      done(std::move(status));
    };
    engine->Add(std::move(made));
    engine->RunHere(Engine::Patience::kShort);
    EXPECT_EQ(call.Await(), absl::OkStatus());
    return here;
  };
  EXPECT_FALSE(answered_here());
  // A step of the fake device takes microseconds, unless the machine is busy elsewhere.
  int here = 0;
  for (int i = 0; i < 1000; ++i) here += answered_here() ? 1 : 0;
  EXPECT_GT(here, 0);
}

TEST_F(EngineTest, CallThatIsGivenUpDoesNotEnterADevice) {
  script_->CloseGate();
  auto engine = Start({});
  TestCall first(1, 1), wanted(1, 2), unwanted(1, 3);
  std::atomic<bool> given_up{false};
  engine->Enqueue(first.Make());
  script_->AwaitEntered(1);
  engine->Enqueue(wanted.Make());
  Call made = unwanted.Make();
  made.cancelled = [&] { return given_up.load(); };
  engine->Enqueue(std::move(made));
  EXPECT_EQ(unwanted.answers(), 0);
  given_up = true;
  // Although the device is busy.
  EXPECT_EQ(unwanted.Await().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(wanted.answers(), 0);
  script_->OpenGate();
  EXPECT_EQ(wanted.Await(), absl::OkStatus());
  EXPECT_EQ(script_->seen().size(), 2);
  EXPECT_EQ(engine->Statistics().cancelled, 1);
}

TEST_F(EngineTest, StartChecksStartUpInputs) {
  auto program = FakeProgramOf(script_, FakeExecutable({.startup_inputs = 1}));
  absl::StatusOr<std::shared_ptr<Engine>> none = Engine::Start({"E"}, program, {});
  EXPECT_EQ(none.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(none.status().message(), HasSubstr("Engine 'E'"));
  AlignedBuffer small(4), right(8);
  EXPECT_EQ(Engine::Start({"E"}, program, {small.span()}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Engine::Start({"E"}, program, {right.span()}).ok());
}

}  // namespace
}  // namespace tfipu
