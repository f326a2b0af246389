#include "cc/engine/engine.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/engine/call_queue.h"
#include "cc/engine/engine_step.h"
#include "cc/engine/feed_layout.h"

namespace tfipu {
namespace {

using Clock = std::chrono::steady_clock;

// How long a caller that runs a device stays for the calls of others when its own is answered.
constexpr std::chrono::microseconds kHelpTime{20};

std::uint64_t Microseconds(Clock::duration duration) {
  const auto count = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  return count > 0 ? static_cast<std::uint64_t>(count) : 0;
}

// `now` plus the duration, without overflow.
SteadyTime After(SteadyTime now, absl::Duration duration) {
  if (duration >= absl::Hours(24 * 365)) return SteadyTime::max();
  return now + absl::ToChronoNanoseconds(std::max(duration, absl::ZeroDuration()));
}

void NameThisThread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

bool Recoverable(const DeviceFailure& failure) {
  return failure.kind == DeviceFailure::Kind::kApplicationError ||
         failure.kind == DeviceFailure::Kind::kRecoverableReset;
}

absl::Status StatusOf(const DeviceFailure& failure, const std::string& engine) {
  const std::string& action = failure.recovery_action;
  switch (failure.kind) {
    case DeviceFailure::Kind::kApplicationError:
    case DeviceFailure::Kind::kRecoverableReset:
      return absl::InternalError(absl::StrCat("application_runtime_error in engine '", engine,
                                              "': ", failure.reason,
                                              ". Recovery action: ", action.empty() ? "IPU_RESET" : action,
                                              ". The device is reset; later calls are served."));
    case DeviceFailure::Kind::kRecoverableOther:
    case DeviceFailure::Kind::kDeviceError:
      return absl::InternalError(
          absl::StrCat("Device error in engine '", engine, "': ", failure.reason, ". ",
                       action.empty() ? "" : absl::StrCat("Recovery action: ", action, ". "),
                       "The engine cannot recover from it: every later call fails. Load the model again."));
    case DeviceFailure::Kind::kUnknown:
      break;
  }
  return absl::UnknownError(absl::StrCat("Unknown error of the device of engine '", engine, "': ",
                                         failure.reason, ". Every later call fails. Load the model again."));
}

// A call whose outcome is known, to be told outside of all locks.
struct Answer {
  std::unique_ptr<PendingCall> call;
  absl::Status status;
};
using Answers = absl::InlinedVector<Answer, 2>;

void Tell(Answers& answers) {
  for (Answer& answer : answers) {
    std::function<void(absl::Status)> done = std::move(answer.call->call.done);
    answer.call.reset();
    done(std::move(answer.status));
  }
  answers.clear();
}

// Shared by the engine and its threads, so that neither needs the other to live.
//
// A device that holds no steps back and carries no values is run step by step: by whoever has work for it and
// finds it free, a thread of the engine or the caller's own. Any other device is run by a thread of its own
// without a break.
//
// One lock, mutex_, guards the queue, all calls' counters, and which step is where. Nothing blocks or calls
// out while it is held. A call's buffers and a step's contents belong to whoever holds the step: the
// replica's thread while it is put together, then the device, then the thread in StepDone().
class Core : public std::enable_shared_from_this<Core> {
 public:
  Core(EngineOptions options, std::shared_ptr<Program> program, FeedLayout layout)
      : options_(std::move(options)),
        program_(std::move(program)),
        layout_(std::move(layout)),
        hold_(static_cast<int>(program_->executable().header().hold())),
        step_by_step_(hold_ == 0 && program_->executable().header().carried().empty()) {
    const ExecutableHeader& header = program_->executable().header();
    timeout_ = options_.timeout.value_or(absl::Microseconds(header.timeout_us()));
    max_wait_ = options_.max_wait.value_or(absl::Microseconds(header.max_wait_us()));
  }

  absl::Status Start(absl::Span<const ConstBuffer> startup_inputs);
  CallId Enqueue(Call call);
  bool Cancel(CallId id);
  void Stop();

  const std::string& name() const { return options_.name; }
  const Executable& executable() const { return program_->executable(); }
  EngineStatistics Statistics();

 private:
  // A device and the steps it works on.
  struct Replica final : public StepSource {
    explicit Replica(Core* core) : core(core) {}
    Step* NextStep() override { return core->NextStep(*this); }
    void StepDone(Step* step) override { core->StepDone(*this, static_cast<EngineStep*>(step)); }
    void RunEnded() override { core->RunEnded(); }
    void Interrupt() override { core->Interrupt(*this); }

    Core* const core;
    std::unique_ptr<Device> device;
    // Guarded by mutex_:
    std::deque<std::unique_ptr<EngineStep>> inside;  // in order of entry
    std::vector<std::unique_ptr<EngineStep>> free;
    int real_inside = 0;
    int dummies_since_real = 0;
    bool flushing = false;     // stalled: dummies enter without waiting again
    bool interrupted = false;  // the device wants to return from Run()
    bool told_to_end = false;
    // Of devices that are run step by step:
    std::uint64_t steps_in_run = 0;
    const bool* caller_left = nullptr;  // the call of the caller that runs the device has left the queue
    SteadyTime caller_left_at;
    SteadyTime last_entered;
  };

  // All below need mutex_ unless they say otherwise.

  // Not holding mutex_.
  absl::Status StartThread(std::string name, std::function<void()> body);
  void RunWithoutBreak(Replica& replica);
  void RunStepByStep();
  // Runs the device in the thread of a caller until its call has left the queue. Ends with the replica free
  // again.
  void RunForCaller(Replica& replica, PendingCall* call, const bool& left);
  // Runs the device until it is told to end. False when the engine has ended.
  bool RunDevice(Replica& replica);
  void AnswerExpired();
  Step* NextStep(Replica& replica);
  void StepDone(Replica& replica, EngineStep* step);
  void RunEnded();
  void Interrupt(Replica& replica);

  // When a device can begin a step with what is queued, which is not nothing. `running`: other devices that
  // are inside a step now.
  SteadyTime ReadyAt(std::size_t running);
  std::size_t Running() const { return step_by_step_ ? replicas_.size() - free_.size() : 0; }
  // Whether a caller that runs the device has done enough: its own call, and what others brought that is
  // short.
  bool CallerIsDone(Replica& replica, SteadyTime now);
  void SetFree(Replica& replica);
  // Takes rows off the queue into the step until it is full or the queue is empty.
  void Fill(EngineStep& step, SteadyTime now, Answers& answers);
  // A step of the replica, counted as inside its device.
  EngineStep* NewStep(Replica& replica);
  void LeaveStep(const StepPart& part, const absl::Status& status, Answers& answers);
  // Fails a call that was taken out of the queue: at once, or when its last part leaves its device.
  void Fail(PendingCall* call, absl::Status status, Answers& answers);
  void FailQueue(const absl::Status& status, Answers& answers);
  // Answers a call that is nowhere any more.
  void Conclude(PendingCall* call, Answers& answers);
  bool Ended() const { return stopping_ || !failure_.ok(); }
  absl::Status ExpiredError() const;
  absl::Status StoppedError() const;

  const EngineOptions options_;
  const std::shared_ptr<Program> program_;
  const FeedLayout layout_;
  const int hold_;
  const bool step_by_step_;
  absl::Duration timeout_;
  absl::Duration max_wait_;
  std::vector<std::unique_ptr<Replica>> replicas_;

  std::mutex mutex_;
  std::condition_variable work_;       // calls came, or the end
  std::condition_variable deadlines_;  // an earlier deadline came, or the end
  std::condition_variable joined_;     // all threads ended
  std::condition_variable all_free_;   // no device runs any more
  std::vector<Replica*> free_;         // devices that are run step by step and nobody runs now
  CallQueue queue_;
  CallId last_id_ = 0;
  int idle_ = 0;  // threads that wait for work_
  bool stopping_ = false;
  bool all_joined_ = false;
  absl::Status failure_;  // every later call gets it
  std::vector<std::thread> threads_;
  bool watching_deadlines_ = false;
  SteadyTime next_deadline_ = SteadyTime::max();  // when the thread that watches them wakes up
  EngineStatistics counts_;                       // its histograms are not used

  Histogram fill_;
  Histogram queue_time_;
  Histogram device_time_;
  Histogram call_time_;
};

// The engine whose thread this is.
thread_local const Core* this_threads_core = nullptr;

absl::Status Core::Start(absl::Span<const ConstBuffer> startup_inputs) {
  const ExecutableHeader& header = executable().header();
  const auto& specs = header.startup_inputs();
  if (static_cast<std::size_t>(specs.size()) != startup_inputs.size()) {
    return absl::InvalidArgumentError(absl::StrCat("The executable has ", specs.size(),
                                                   " start-up inputs, but ", startup_inputs.size(),
                                                   " were given."));
  }
  for (int i = 0; i < specs.size(); ++i) {
    TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(specs[i]));
    if (size != startup_inputs[i].size()) {
      return absl::InvalidArgumentError(absl::StrCat("Start-up input ", i, " ('", specs[i].name(), "') is ",
                                                     ToString(specs[i]), " of ", size, " bytes, but ",
                                                     startup_inputs[i].size(), " bytes were given."));
    }
  }
  int count = options_.replicas > 0 ? options_.replicas : static_cast<int>(header.replicas());
  if (count == 0) count = step_by_step_ ? std::max(options_.automatic_replicas, 1) : 1;
  for (int i = 0; i < count; ++i) {
    auto replica = std::make_unique<Replica>(this);
    TFIPU_ASSIGN_OR_RETURN(replica->device, program_->CreateDevice(startup_inputs));
    replicas_.push_back(std::move(replica));
  }
  if (step_by_step_) {
    for (const std::unique_ptr<Replica>& replica : replicas_) free_.push_back(replica.get());
  }
  for (int i = 0; i < count; ++i) {
    TFIPU_RETURN_IF_ERROR(StartThread(absl::StrCat("ipu_engine/", i), [this, replica = replicas_[i].get()] {
      if (step_by_step_) {
        RunStepByStep();
      } else {
        RunWithoutBreak(*replica);
      }
    }));
  }
  return absl::OkStatus();
}

absl::Status Core::StartThread(std::string name, std::function<void()> body) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return StoppedError();
  try {
    threads_.emplace_back([self = shared_from_this(), name = std::move(name), body = std::move(body)] {
      NameThisThread(name);
      this_threads_core = self.get();
      body();
    });
    return absl::OkStatus();
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat("No thread could be started: ", error.what()));
  }
}

CallId Core::Enqueue(Call call) {
  absl::Status status = layout_.Check(call);
  const std::int64_t rows = layout_.RowsOf(call);
  if (!status.ok() || rows == 0) {
    call.done(std::move(status));
    return 0;
  }
  auto pending = std::make_unique<PendingCall>();
  pending->enqueued = Clock::now();
  if (call.deadline != absl::InfiniteFuture()) {
    pending->deadline = After(pending->enqueued, call.deadline - absl::Now());
  }
  pending->rows = rows;
  pending->call = std::move(call);
  const bool has_deadline = pending->deadline != SteadyTime::max();

  CallId id = 0;
  Replica* mine = nullptr;  // run here
  PendingCall* queued = nullptr;
  bool left = false;
  bool wake = false;
  bool watch = false;
  bool earlier = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) {
      status = StoppedError();
      ++counts_.cancelled;
    } else if (!failure_.ok()) {
      status = failure_;
      ++counts_.failed;
    } else if (has_deadline && pending->deadline <= pending->enqueued) {
      status = ExpiredError();
      ++counts_.expired;
    } else if (options_.max_queued_calls > 0 && queue_.size() >= options_.max_queued_calls) {
      status = absl::ResourceExhaustedError(
          absl::StrCat("The queue of engine '", name(), "' is full: ", queue_.size(),
                       " calls wait, which is its bound. Try again later."));
      ++counts_.rejected;
    } else {
      id = ++last_id_;
      pending->id = id;
      const std::int64_t before = queue_.rows();
      if (has_deadline) {
        watch = !std::exchange(watching_deadlines_, true);
        earlier = pending->deadline < next_deadline_;
        if (earlier) next_deadline_ = pending->deadline;
      }
      queued = pending.release();
      queue_.Push(queued);
      const SteadyTime ready = ReadyAt(Running());
      if (queued->call.run_here && !free_.empty() && ready <= queued->enqueued) {
        mine = free_.back();
        free_.pop_back();
        queued->left_queue = &left;
      } else {
        // While threads wait for a step's worth of rows, only the call that completes one is news to them.
        wake = idle_ > 0 && (!step_by_step_ || !free_.empty()) && ready != SteadyTime::max() &&
               (before == 0 || before / layout_.batch != (before + rows) / layout_.batch);
      }
    }
  }
  if (wake) work_.notify_one();
  if (watch) {
    // Without the thread, expired calls are answered when a device comes to them.
    StartThread("ipu_deadlines", [this] { AnswerExpired(); }).IgnoreError();
  } else if (earlier) {
    deadlines_.notify_one();
  }
  if (!status.ok()) pending->call.done(std::move(status));
  if (mine != nullptr) RunForCaller(*mine, queued, left);
  return id;
}

void Core::RunForCaller(Replica& replica, PendingCall* call, const bool& left) {
  // The answer of the call may drop the engine.
  const std::shared_ptr<Core> self = shared_from_this();
  const Core* const outer = std::exchange(this_threads_core, this);
  replica.caller_left = &left;
  replica.caller_left_at = SteadyTime::max();
  RunDevice(replica);
  replica.caller_left = nullptr;
  bool wake;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    // Rows that wait for company stay in the queue.
    if (!left) call->left_queue = nullptr;
    SetFree(replica);
    wake = idle_ > 0 && !queue_.empty();
  }
  if (wake) work_.notify_one();
  this_threads_core = outer;
}

void Core::SetFree(Replica& replica) {
  free_.push_back(&replica);
  if (stopping_ && free_.size() == replicas_.size()) all_free_.notify_all();
}

SteadyTime Core::ReadyAt(std::size_t running) {
  if (queue_.rows() >= layout_.batch) return SteadyTime::min();
  if (max_wait_ > absl::ZeroDuration()) return After(queue_.Oldest(), max_wait_);
  // Rows that would be padded to the whole batch are left to the device that is done next.
  const bool wait = running > 0 && layout_.StepRows(queue_.rows()) == layout_.batch;
  return wait ? SteadyTime::max() : SteadyTime::min();
}

bool Core::CallerIsDone(Replica& replica, SteadyTime now) {
  if (replica.caller_left == nullptr || !*replica.caller_left) return false;
  if (replica.caller_left_at == SteadyTime::max()) replica.caller_left_at = now;
  // Waking a thread for the others would take as long.
  const Clock::duration step_time = now - replica.last_entered;
  return now - replica.caller_left_at + step_time > kHelpTime;
}

bool Core::Cancel(CallId id) {
  Answers answers;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    PendingCall* call = queue_.Remove(id);
    if (call == nullptr) return false;
    Fail(call,
         absl::CancelledError(
             absl::StrCat("The call was cancelled while it waited for engine '", name(), "'.")),
         answers);
  }
  Tell(answers);
  return true;
}

void Core::Stop() {
  Answers answers;
  std::vector<std::thread> threads;
  const bool from_own_thread = this_threads_core == this;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (std::exchange(stopping_, true)) {
      if (!from_own_thread) joined_.wait(lock, [this] { return all_joined_; });
      return;
    }
    FailQueue(StoppedError(), answers);
    threads.swap(threads_);
  }
  work_.notify_all();
  deadlines_.notify_all();
  Tell(answers);
  for (std::thread& thread : threads) {
    if (thread.get_id() == std::this_thread::get_id()) {
      thread.detach();
    } else {
      thread.join();
    }
  }
  // A device that is running still, as this is its thread, is destroyed with the last reference to this
  // object.
  if (!from_own_thread) {
    if (step_by_step_) {
      std::unique_lock<std::mutex> lock(mutex_);
      all_free_.wait(lock, [this] { return free_.size() == replicas_.size(); });
    }
    for (std::unique_ptr<Replica>& replica : replicas_) replica->device.reset();
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    all_joined_ = true;
  }
  joined_.notify_all();
}

EngineStatistics Core::Statistics() {
  EngineStatistics statistics;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    statistics = counts_;
    statistics.queued = queue_.size();
  }
  statistics.fill = fill_.Read();
  statistics.queue_time = queue_time_.Read();
  statistics.device_time = device_time_.Read();
  statistics.call_time = call_time_.Read();
  return statistics;
}

void Core::RunWithoutBreak(Replica& replica) {
  while (RunDevice(replica)) {
  }
}

void Core::RunStepByStep() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!Ended()) {
    SteadyTime wake_up = SteadyTime::max();
    if (!queue_.empty() && !free_.empty()) {
      wake_up = ReadyAt(Running());
      if (wake_up <= Clock::now()) {
        Replica* replica = free_.back();
        free_.pop_back();
        lock.unlock();
        RunDevice(*replica);
        lock.lock();
        SetFree(*replica);
        continue;
      }
    }
    ++idle_;
    if (wake_up == SteadyTime::max()) {
      work_.wait(lock);
    } else {
      work_.wait_until(lock, wake_up);
    }
    --idle_;
  }
}

bool Core::RunDevice(Replica& replica) {
  std::optional<DeviceFailure> failure = replica.device->Run(replica);
  Answers answers;
  bool goes_on;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!failure.has_value() && !replica.told_to_end) {
      failure = {DeviceFailure::Kind::kUnknown, "", "the device ended its program without being told to"};
    }
    const absl::Status status = failure.has_value() ? StatusOf(*failure, name()) : StoppedError();
    for (std::unique_ptr<EngineStep>& step : replica.inside) {
      for (const StepPart& part : step->parts()) LeaveStep(part, status, answers);
      replica.free.push_back(std::move(step));
    }
    replica.inside.clear();
    replica.real_inside = 0;
    replica.dummies_since_real = 0;
    replica.flushing = false;
    replica.interrupted = false;
    replica.told_to_end = false;
    if (failure.has_value()) {
      FailQueue(status, answers);
      if (!Recoverable(*failure) && failure_.ok()) failure_ = status;
    }
    goes_on = !Ended();
  }
  if (!goes_on) work_.notify_all();
  Tell(answers);
  if (!goes_on || !failure.has_value()) return goes_on;
  const absl::Status reset = replica.device->Reset();
  {
    std::lock_guard<std::mutex> lock(mutex_);
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
  }
  if (!goes_on) work_.notify_all();
  Tell(answers);
  return goes_on;
}

void Core::AnswerExpired() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    if (next_deadline_ == SteadyTime::max()) {
      deadlines_.wait(lock);
      continue;
    }
    // By value: the member changes while waiting.
    const SteadyTime wake_up = next_deadline_;
    const SteadyTime now = Clock::now();
    if (now < wake_up) {
      deadlines_.wait_until(lock, wake_up);
      continue;
    }
    Answers answers;
    next_deadline_ = SteadyTime::max();
    absl::InlinedVector<PendingCall*, 8> expired;
    queue_.RemoveIf([&](PendingCall* call) {
      if (call->deadline > now) {
        next_deadline_ = std::min(next_deadline_, call->deadline);
        return false;
      }
      expired.push_back(call);
      return true;
    });
    for (PendingCall* call : expired) Fail(call, ExpiredError(), answers);
    lock.unlock();
    Tell(answers);
    lock.lock();
  }
}

Step* Core::NextStep(Replica& replica) {
  Answers answers;
  EngineStep* step = nullptr;
  bool wake_another = false;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    SteadyTime now = Clock::now();
    const SteadyTime stalled_at = After(now, timeout_);
    while (!Ended() && !replica.interrupted) {
      SteadyTime wake_up = SteadyTime::max();
      if (!queue_.empty() && !CallerIsDone(replica, now)) {
        const SteadyTime ready = ReadyAt(step_by_step_ ? Running() - 1 : 0);
        if (ready <= now) {
          step = NewStep(replica);
          Fill(*step, now, answers);
          if (step->rows() > 0) {
            ++replica.real_inside;
            replica.dummies_since_real = 0;
            replica.flushing = false;
            wake_another = idle_ > 0 && !queue_.empty() && (!step_by_step_ || !free_.empty());
            break;
          }
          replica.free.push_back(std::move(replica.inside.back()));
          replica.inside.pop_back();
          step = nullptr;
          continue;
        }
        wake_up = ready;
      }
      if (step_by_step_) break;  // the device is free while there is nothing to do
      // The device gives up its last real step when `hold` others have entered behind it.
      if (replica.real_inside > 0 && replica.dummies_since_real < hold_) {
        if (replica.flushing || stalled_at <= now) {
          if (!std::exchange(replica.flushing, true)) ++counts_.stalls;
          ++replica.dummies_since_real;
          ++counts_.dummy_steps;
          step = NewStep(replica);
          step->dummy = true;
          break;
        }
        wake_up = std::min(wake_up, stalled_at);
      }
      if (!answers.empty()) {
        lock.unlock();
        Tell(answers);
        lock.lock();
        now = Clock::now();
        continue;
      }
      ++idle_;
      if (wake_up == SteadyTime::max()) {
        work_.wait(lock);
      } else {
        work_.wait_until(lock, wake_up);
      }
      --idle_;
      now = Clock::now();
    }
    if (step != nullptr) {
      step->entered = now;
      replica.last_entered = now;
    } else {
      replica.told_to_end = true;
    }
  }
  if (wake_another) work_.notify_one();
  if (step != nullptr) {
    step->Gather(layout_);
    for (const StepPart& part : step->parts()) {
      if (part.call_row > 0) continue;
      const Clock::duration queued = step->entered - part.call->enqueued;
      queue_time_.Add(Microseconds(queued));
      if (part.call->call.waited != nullptr && max_wait_ <= absl::ZeroDuration()) {
        *part.call->call.waited = absl::FromChrono(queued);
      }
    }
  }
  Tell(answers);
  return step;
}

EngineStep* Core::NewStep(Replica& replica) {
  std::unique_ptr<EngineStep> step;
  if (replica.free.empty()) {
    step = std::make_unique<EngineStep>();
  } else {
    step = std::move(replica.free.back());
    replica.free.pop_back();
  }
  step->Clear();
  replica.inside.push_back(std::move(step));
  return replica.inside.back().get();
}

void Core::Fill(EngineStep& step, SteadyTime now, Answers& answers) {
  while (step.rows() < layout_.batch) {
    PendingCall* call = queue_.Front();
    if (call == nullptr) return;
    if (call->deadline <= now) {
      queue_.PopFront();
      Fail(call, ExpiredError(), answers);
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

void Core::StepDone(Replica& replica, EngineStep* step) {
  if (!step->dummy) step->Scatter(layout_);
  const SteadyTime now = Clock::now();
  if (!step->dummy) {
    fill_.Add(static_cast<std::uint64_t>(step->rows() * 100 / step->computed_rows));
    device_time_.Add(Microseconds(now - step->entered));
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
  for (const Answer& answer : answers) {
    if (answer.status.ok()) call_time_.Add(Microseconds(now - answer.call->enqueued));
  }
  Tell(answers);
}

void Core::RunEnded() {
  if (step_by_step_) return;  // whose steps are counted over all runs of the device
  std::lock_guard<std::mutex> lock(mutex_);
  ++counts_.runs;
}

void Core::Interrupt(Replica& replica) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    replica.interrupted = true;
  }
  work_.notify_all();
}

void Core::LeaveStep(const StepPart& part, const absl::Status& status, Answers& answers) {
  PendingCall* call = part.call;
  --call->parts_inside;
  if (!status.ok()) {
    if (call->status.ok()) call->status = status;
    // What is left of it in the queue would be in vain; it is at the front of its lane.
    if (call->queued) queue_.RemoveIf([call](PendingCall* other) { return other == call; });
  }
  if (!call->queued && call->parts_inside == 0) Conclude(call, answers);
}

void Core::Fail(PendingCall* call, absl::Status status, Answers& answers) {
  if (call->status.ok()) call->status = std::move(status);
  if (call->parts_inside == 0) Conclude(call, answers);
}

void Core::FailQueue(const absl::Status& status, Answers& answers) {
  absl::InlinedVector<PendingCall*, 8> calls;
  queue_.RemoveIf([&](PendingCall* call) {
    calls.push_back(call);
    return true;
  });
  for (PendingCall* call : calls) Fail(call, status, answers);
}

void Core::Conclude(PendingCall* call, Answers& answers) {
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
  absl::Status status = std::move(call->status);
  answers.push_back({std::unique_ptr<PendingCall>(call), std::move(status)});
}

absl::Status Core::ExpiredError() const {
  return absl::DeadlineExceededError(
      absl::StrCat("The deadline of the call passed while it waited for engine '", name(), "'."));
}

absl::Status Core::StoppedError() const {
  return absl::CancelledError(absl::StrCat("Engine '", name(), "' was stopped."));
}

class DeviceEngine final : public Engine {
 public:
  explicit DeviceEngine(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  ~DeviceEngine() override { core_->Stop(); }

  CallId Enqueue(Call call) override { return core_->Enqueue(std::move(call)); }
  bool Cancel(CallId id) override { return core_->Cancel(id); }
  void Stop() override { core_->Stop(); }
  const std::string& name() const override { return core_->name(); }
  const Executable& executable() const override { return core_->executable(); }
  EngineStatistics Statistics() const override { return core_->Statistics(); }

 private:
  const std::shared_ptr<Core> core_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Engine>> Engine::Start(EngineOptions options, std::shared_ptr<Program> program,
                                                      absl::Span<const ConstBuffer> startup_inputs) {
  const std::string name = options.name;
  const auto named = [&name](const absl::Status& status) {
    return absl::Status(status.code(),
                        absl::StrCat("Engine '", name, "' was not started: ", status.message()));
  };
  absl::StatusOr<FeedLayout> layout = FeedLayout::Of(program->executable().header());
  if (!layout.ok()) return named(layout.status());
  auto core = std::make_shared<Core>(std::move(options), std::move(program), *std::move(layout));
  absl::Status started = core->Start(startup_inputs);
  if (!started.ok()) {
    core->Stop();
    return named(started);
  }
  return std::make_shared<DeviceEngine>(std::move(core));
}

}  // namespace tfipu
