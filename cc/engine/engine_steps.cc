// Steps of an engine: how they are put together for a device, and what becomes of their calls.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/engine/device_failure.h"
#include "cc/engine/engine_core.h"

namespace tfipu {
namespace {

using Clock = std::chrono::steady_clock;

// When there was no memory for a dummy step.
constexpr std::chrono::milliseconds kRetry{1};

std::uint64_t Microseconds(Clock::duration duration) {
  const auto count = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  return count > 0 ? static_cast<std::uint64_t>(count) : 0;
}

}  // namespace

bool EngineCore::RunDevice(Replica& replica) {
  ReplicaSteps steps(this, &replica);
  std::optional<DeviceFailure> failure = replica.device->Run(steps);
  bool goes_on;
  {
    Answers answers;
    std::unique_lock<std::mutex> lock(mutex_);
    if (!failure.has_value() && !replica.told_to_end) {
      failure = {DeviceFailure::Kind::kUnknown, "", "the device ended its program without being told to"};
    }
    const absl::Status status = failure.has_value() ? StatusOf(*failure, name()) : absl::OkStatus();
    for (const std::unique_ptr<EngineStep>& step : replica.inside) {
      for (const StepPart& part : step->parts()) {
        LeaveStep(part, status.ok() ? StoppedError() : status, answers);
      }
    }
    replica.Forget();
    if (failure.has_value()) {
      FailQueue(status, answers);
      if (!Recoverable(*failure) && failure_.ok()) failure_ = status;
    }
    goes_on = !Ended();
    lock.unlock();
    if (!goes_on) work_.notify_all();
  }
  if (!goes_on || !failure.has_value()) return goes_on;
  const absl::Status reset = replica.device->Reset();
  Answers answers;
  std::unique_lock<std::mutex> lock(mutex_);
  ++counts_.resets;
  if (!reset.ok()) {
    if (failure_.ok()) {
      failure_ = absl::InternalError(absl::StrCat("The device of engine '", name(),
                                                  "' could not be reset: ", reset.message(),
                                                  ". Every later call fails. Load the model again."));
    }
    FailQueue(failure_, answers);
  }
  goes_on = !Ended();
  lock.unlock();
  if (!goes_on) work_.notify_all();
  return goes_on;
}

Step* EngineCore::NextStep(Replica& replica) {
  while (true) {
    Answers answers;
    std::unique_lock<std::mutex> lock(mutex_);
    SteadyTime now = Clock::now();
    const SteadyTime stalled_at = After(now, timeout_);
    EngineStep* step = nullptr;
    bool wake_another = false;
    while (!Ended() && !replica.interrupted) {
      SteadyTime wake_up = SteadyTime::max();
      if (!queue_.empty() && !CallerLeaves(replica, now)) {
        wake_up = ReadyAt(step_by_step_ ? Running() - 1 : 0);
        if (wake_up <= now) {
          step = TakeStep(replica, now, answers);
          if (step == nullptr) continue;
          wake_another = idle_ > 0 && (!step_by_step_ || !free_.empty()) && QueueIsWorthAThread();
          break;
        }
      }
      if (step_by_step_) break;  // the device is free while there is nothing to do
      // The device gives up its last real step when `hold` others have entered behind it.
      if (replica.real_inside > 0 && replica.dummies_since_real < hold_) {
        if (replica.flushing || stalled_at <= now) {
          step = TakeDummyStep(replica);
          if (step != nullptr) break;
          wake_up = now + kRetry;
        } else {
          wake_up = std::min(wake_up, stalled_at);
        }
      }
      if (!answers.empty()) {
        lock.unlock();
        answers.Tell();
        lock.lock();
      } else {
        WaitForWork(lock, wake_up);
      }
      now = Clock::now();
    }
    if (step == nullptr) {
      replica.told_to_end = true;
      return nullptr;
    }
    step->entered = now;
    lock.unlock();
    if (wake_another) work_.notify_one();
    absl::Status gathered = step->Gather(layout_);
    if (!gathered.ok()) {
      lock.lock();
      Abandon(replica, step, gathered, answers);
      continue;
    }
    for (const StepPart& part : step->parts()) {
      if (part.call_row > 0) continue;
      const Clock::duration queued = step->entered - part.call->enqueued;
      queue_time_.Add(Microseconds(queued));
      if (part.call->call.waited != nullptr && max_wait_ <= absl::ZeroDuration()) {
        *part.call->call.waited = absl::FromChrono(queued);
      }
    }
    return step;
  }
}

EngineStep* EngineCore::TakeStep(Replica& replica, SteadyTime now, Answers& answers) {
  EngineStep* step = nullptr;
  try {
    step = replica.NewStep(layout_.batch);
  } catch (const std::bad_alloc&) {
    PendingCall* call = queue_.Front();
    queue_.PopFront();
    Fail(call, absl::ResourceExhaustedError("There is no memory for another step."), answers);
    return nullptr;
  }
  Fill(*step, now, answers);
  if (step->rows() == 0) {
    replica.DropNewest();
    return nullptr;
  }
  if (replica.caller != nullptr) replica.caller->rows_left -= step->rows();
  ++replica.real_inside;
  replica.dummies_since_real = 0;
  replica.flushing = false;
  return step;
}

EngineStep* EngineCore::TakeDummyStep(Replica& replica) {
  if (!std::exchange(replica.flushing, true)) ++counts_.stalls;
  EngineStep* step = nullptr;
  try {
    step = replica.NewStep(layout_.batch);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  ++replica.dummies_since_real;
  ++counts_.dummy_steps;
  step->dummy = true;
  return step;
}

void EngineCore::Fill(EngineStep& step, SteadyTime now, Answers& answers) {
  while (step.rows() < layout_.batch) {
    PendingCall* call = queue_.Front();
    if (call == nullptr) return;
    const bool expired = call->deadline <= now;
    if (expired || (call->entered == 0 && call->GivenUp())) {
      queue_.PopFront();
      Fail(call, expired ? ExpiredError() : GivenUpError(), answers);
      continue;
    }
    const std::int64_t rows = std::min(layout_.batch - step.rows(), call->rows - call->entered);
    step.Add(call, call->entered, rows);
    queue_.RowsTaken(rows);
    call->entered += rows;
    ++call->parts_inside;
    if (call->entered == call->rows) queue_.PopFront();
  }
}

void EngineCore::Abandon(Replica& replica, EngineStep* step, const absl::Status& status, Answers& answers) {
  if (!step->dummy) --replica.real_inside;
  for (const StepPart& part : step->parts()) LeaveStep(part, status, answers);
  replica.DropNewest();
}

void EngineCore::StepDone(Replica& replica, EngineStep* step) {
  if (!step->dummy) step->Scatter(layout_);
  const SteadyTime now = Clock::now();
  if (!step->dummy) {
    fill_.Add(static_cast<std::uint64_t>(step->rows() * 100 / step->computed_rows));
    device_time_.Add(Microseconds(now - step->entered));
    if (step_by_step_) step_times_[layout_.StepRowsIndex(step->rows())].Add(now - step->entered);
  }
  Answers answers;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!step->dummy) {
      --replica.real_inside;
      ++counts_.steps;
      counts_.rows += step->rows();
      counts_.padded_rows += step->computed_rows - step->rows();
      for (const StepPart& part : step->parts()) LeaveStep(part, absl::OkStatus(), answers);
      if (step_by_step_ && ++replica.steps_in_run == executable().header().iterations()) {
        replica.steps_in_run = 0;
        ++counts_.runs;
      }
    }
    replica.free.push_back(std::move(replica.inside.front()));
    replica.inside.pop_front();
  }
  for (const PendingCall* call = answers.first(); call != nullptr; call = call->next) {
    if (call->status.ok()) call_time_.Add(Microseconds(now - call->enqueued));
  }
}

void EngineCore::RunEnded() {
  if (step_by_step_) return;  // whose steps are counted over all runs of the device
  std::lock_guard<std::mutex> lock(mutex_);
  ++counts_.runs;
}

void EngineCore::Interrupt(Replica& replica) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    replica.interrupted = true;
  }
  work_.notify_all();
}

void EngineCore::LeaveStep(const StepPart& part, const absl::Status& status, Answers& answers) {
  PendingCall* call = part.call;
  --call->parts_inside;
  if (!status.ok()) {
    if (call->status.ok()) call->status = status;
    // What is left of it in the queue would be in vain; it is at the front of its lane.
    if (call->queued) queue_.RemoveIf([call](PendingCall* other) { return other == call; });
  }
  if (!call->queued && call->parts_inside == 0) Conclude(call, answers);
}

void EngineCore::Fail(PendingCall* call, absl::Status status, Answers& answers) {
  if (call->status.ok()) call->status = std::move(status);
  if (call->parts_inside == 0) Conclude(call, answers);
}

void EngineCore::FailQueue(const absl::Status& status, Answers& answers) {
  queue_.RemoveIf([&](PendingCall* call) {
    Fail(call, status, answers);
    return true;
  });
}

void EngineCore::Conclude(PendingCall* call, Answers& answers) {
  switch (call->status.code()) {
    case absl::StatusCode::kOk:
      ++counts_.calls;
      break;
    case absl::StatusCode::kDeadlineExceeded:
      ++counts_.expired;
      break;
    case absl::StatusCode::kCancelled:
      ++counts_.cancelled;
      break;
    default:
      ++counts_.failed;
  }
  answers.Add(std::unique_ptr<PendingCall>(call));
}

}  // namespace tfipu
