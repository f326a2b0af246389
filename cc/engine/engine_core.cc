// Calls and threads of an engine: what comes in, who runs it, and the end.
#include "cc/engine/engine_core.h"

#include <pthread.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/engine/device_failure.h"

namespace tfipu {
namespace {

using Clock = std::chrono::steady_clock;

// How often calls that wait are asked whether they are still wanted. A thousand that wait for long cost some
// microseconds each time.
constexpr std::chrono::milliseconds kAskGivenUp{50};

// The core whose thread this is: a thread of the engine, or a caller's that runs a device.
thread_local const EngineCore* this_threads_core = nullptr;

}  // namespace

SteadyTime After(SteadyTime now, absl::Duration duration) {
  if (duration >= absl::Hours(24 * 365)) return SteadyTime::max();
  return now + absl::ToChronoNanoseconds(std::max(duration, absl::ZeroDuration()));
}

EngineCore::EngineCore(EngineOptions options, std::shared_ptr<Program> program, FeedLayout layout)
    : options_(std::move(options)),
      program_(std::move(program)),
      layout_(std::move(layout)),
      hold_(static_cast<int>(program_->executable().header().hold())),
      step_by_step_(program_->execution_mode() == ExecutionMode::kStepByStep),
      timeout_(options_.timeout.value_or(absl::Microseconds(program_->executable().header().timeout_us()))),
      max_wait_(
          options_.max_wait.value_or(absl::Microseconds(program_->executable().header().max_wait_us()))),
      step_times_(layout_.step_rows.size()) {}

absl::Status EngineCore::CheckStartupInputs(absl::Span<const ConstBuffer> startup_inputs) const {
  const auto& specs = executable().header().startup_inputs();
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
  return absl::OkStatus();
}

absl::Status EngineCore::Start(absl::Span<const ConstBuffer> startup_inputs) {
  TFIPU_RETURN_IF_ERROR(CheckStartupInputs(startup_inputs));
  int count = options_.replicas > 0 ? options_.replicas : static_cast<int>(executable().header().replicas());
  if (count == 0) count = step_by_step_ ? std::max(options_.automatic_replicas, 1) : 1;
  for (int i = 0; i < count; ++i) {
    auto replica = std::make_unique<Replica>();
    TFIPU_ASSIGN_OR_RETURN(replica->device, program_->CreateDevice(startup_inputs));
    replicas_.push_back(std::move(replica));
  }
  if (step_by_step_) {
    for (const std::unique_ptr<Replica>& replica : replicas_) free_.push_back(replica.get());
  }
  look_ = [self = weak_from_this()](SteadyTime now) {
    const std::shared_ptr<EngineCore> core = self.lock();
    return core == nullptr ? SteadyTime::max() : core->AnswerExpired(now);
  };
  for (int i = 0; i < count; ++i) TFIPU_RETURN_IF_ERROR(StartThread(i));
  return absl::OkStatus();
}

absl::Status EngineCore::StartThread(int replica) {
  std::lock_guard<std::mutex> lock(mutex_);
  try {
    threads_.emplace_back([self = shared_from_this(), replica] {
      pthread_setname_np(pthread_self(), absl::StrCat("ipu_engine/", replica).substr(0, 15).c_str());
      if (self->options_.on_thread_start) self->options_.on_thread_start();
      this_threads_core = self.get();
      if (self->step_by_step_) {
        self->RunStepByStep();
      } else {
        self->RunWithoutBreak(*self->replicas_[replica]);
      }
    });
    return absl::OkStatus();
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat("No thread could be started: ", error.what()));
  }
}

CallId EngineCore::Add(Call call) {
  absl::Status status = layout_.Check(call);
  const std::int64_t rows = layout_.RowsOf(call);
  if (!status.ok() || rows == 0) {
    call.done(std::move(status));
    return 0;
  }
  std::unique_ptr<PendingCall> pending;
  try {
    pending = std::make_unique<PendingCall>();
  } catch (const std::bad_alloc&) {
    call.done(absl::ResourceExhaustedError("There is no memory for another call."));
    return 0;
  }
  pending->enqueued = Clock::now();
  if (call.deadline != absl::InfiniteFuture()) {
    pending->deadline = After(pending->enqueued, call.deadline - absl::Now());
  }
  pending->rows = rows;
  pending->call = std::move(call);
  SteadyTime look = pending->deadline;
  if (pending->call.cancelled) look = std::min(look, pending->enqueued + kAskGivenUp);
  CallId id;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    id = pending->id = last_id_ + 1;
    status = Queue(pending);
    if (status.ok()) ++last_id_;
  }
  if (!status.ok()) {
    pending->call.done(std::move(status));
    return 0;
  }
  if (look != SteadyTime::max()) deadlines_.Watch(look, look_);
  return id;
}

// Takes the call over if it says OK.
absl::Status EngineCore::Queue(std::unique_ptr<PendingCall>& pending) {
  if (stopping_) {
    ++counts_.cancelled;
    return StoppedError();
  }
  if (!failure_.ok()) {
    ++counts_.failed;
    return failure_;
  }
  if (pending->deadline <= pending->enqueued) {
    ++counts_.expired;
    return ExpiredError();
  }
  if (options_.max_queued_calls > 0 && queue_.size() >= options_.max_queued_calls) {
    ++counts_.rejected;
    return absl::ResourceExhaustedError(absl::StrCat("The queue of engine '", name(),
                                                     "' is full: ", queue_.size(),
                                                     " calls wait, which is its bound. Try again later."));
  }
  try {
    queue_.Push(pending.get());
  } catch (const std::bad_alloc&) {
    ++counts_.rejected;
    return absl::ResourceExhaustedError("There is no memory for another call.");
  }
  pending.release();
  return absl::OkStatus();
}

void EngineCore::Wake() {
  bool wake;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    wake = NeedsThread();
  }
  if (wake) work_.notify_one();
}

bool EngineCore::NeedsThread() {
  if (idle_ == 0 || queue_.empty() || (step_by_step_ && free_.empty())) return false;
  // While a thread waits for company for what came first, only a step's worth of rows is news.
  const SteadyTime ready = ReadyAt(Running());
  return ready == SteadyTime::min() || (ready != SteadyTime::max() && wait_for_company_ == 0);
}

void EngineCore::RunHere(Engine::Patience patience) {
  VisitingCaller caller;
  Replica* mine = nullptr;
  bool wake = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (queue_.empty()) return;
    bool here = step_by_step_ && !free_.empty();
    if (here && patience == Engine::Patience::kShort) {
      const auto time = NextStepTime();
      here = time.has_value() && *time < kShortWork;
    }
    if (here) {
      caller.came = Clock::now();
      here = ReadyAt(Running()) <= caller.came;
    }
    if (here) {
      mine = free_.back();
      free_.pop_back();
      caller.rows_left = queue_.rows();
      mine->caller = &caller;
    } else {
      wake = NeedsThread();
    }
  }
  if (wake) work_.notify_one();
  if (mine == nullptr) return;
  // The answer of a call may drop the engine.
  const std::shared_ptr<EngineCore> self = shared_from_this();
  const EngineCore* const outer = std::exchange(this_threads_core, this);
  RunDevice(*mine);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    mine->caller = nullptr;
    SetFree(*mine);
    wake = NeedsThread();
  }
  if (wake) work_.notify_one();
  this_threads_core = outer;
}

void EngineCore::SetFree(Replica& replica) {
  free_.push_back(&replica);
  if (stopping_ && free_.size() == replicas_.size()) all_free_.notify_all();
}

SteadyTime EngineCore::ReadyAt(std::size_t running) {
  if (queue_.rows() >= layout_.batch) return SteadyTime::min();
  if (max_wait_ > absl::ZeroDuration()) return After(queue_.Oldest(), max_wait_);
  // Rows that would be padded to the whole batch are left to the device that is done next.
  const bool wait = running > 0 && layout_.StepRows(queue_.rows()) == layout_.batch;
  return wait ? SteadyTime::max() : SteadyTime::min();
}

std::optional<std::chrono::duration<float, std::micro>> EngineCore::NextStepTime() const {
  const RecentTime& time = step_times_[layout_.StepRowsIndex(std::min(queue_.rows(), layout_.batch))];
  if (!time.known()) return std::nullopt;
  return time.average();
}

bool EngineCore::QueueIsWorthAThread() const {
  if (queue_.empty()) return false;
  const auto step = NextStepTime();
  if (!step.has_value()) return true;
  const auto steps = static_cast<float>((queue_.rows() + layout_.batch - 1) / layout_.batch);
  return *step * steps > kWorthHandingOver;
}

bool EngineCore::CallerLeaves(Replica& replica, SteadyTime now) {
  if (replica.caller == nullptr) return false;
  VisitingCaller& caller = *replica.caller;
  if (caller.rows_left > 0) return now - caller.came > kShortWork;
  if (!caller.rows_done.has_value()) caller.rows_done = now;
  const auto step = NextStepTime();
  return now - *caller.rows_done + step.value_or(std::chrono::duration<float, std::micro>(0)) >
         kStayForOthers;
}

void EngineCore::RunWithoutBreak(Replica& replica) {
  while (RunDevice(replica)) {
  }
}

void EngineCore::RunStepByStep() {
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
    WaitForWork(lock, wake_up);
  }
}

void EngineCore::WaitForWork(std::unique_lock<std::mutex>& lock, SteadyTime until) {
  ++idle_;
  if (until == SteadyTime::max()) {
    work_.wait(lock);
  } else {
    const bool company = !queue_.empty();
    wait_for_company_ += company ? 1 : 0;
    work_.wait_until(lock, until);
    wait_for_company_ -= company ? 1 : 0;
  }
  --idle_;
}

bool EngineCore::Cancel(CallId id) {
  Answers answers;
  std::lock_guard<std::mutex> lock(mutex_);
  PendingCall* call = queue_.Remove(id);
  if (call == nullptr) return false;
  Fail(call, GivenUpError(), answers);
  return true;
}

SteadyTime EngineCore::AnswerExpired(SteadyTime now) {
  Answers answers;
  SteadyTime next = SteadyTime::max();
  std::lock_guard<std::mutex> lock(mutex_);
  queue_.RemoveIf([&](PendingCall* call) {
    const bool expired = call->deadline <= now;
    if (!expired && !call->GivenUp()) {
      next = std::min(next, call->deadline);
      if (call->call.cancelled) next = std::min(next, now + kAskGivenUp);
      return false;
    }
    Fail(call, expired ? ExpiredError() : GivenUpError(), answers);
    return true;
  });
  return next;
}

void EngineCore::Stop() {
  std::vector<std::thread> threads;
  const bool from_own_thread = this_threads_core == this;
  {
    Answers answers;
    std::unique_lock<std::mutex> lock(mutex_);
    if (std::exchange(stopping_, true)) {
      if (!from_own_thread) joined_.wait(lock, [this] { return all_joined_; });
      return;
    }
    stopped_.store(true, std::memory_order_relaxed);
    FailQueue(StoppedError(), answers);
    threads.swap(threads_);
    lock.unlock();
    work_.notify_all();
  }
  deadlines_.Stop();
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

EngineStatistics EngineCore::Statistics() {
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

absl::Status EngineCore::ExpiredError() const {
  return absl::DeadlineExceededError(
      absl::StrCat("The deadline of the call passed while it waited for engine '", name(), "'."));
}

absl::Status EngineCore::GivenUpError() const {
  return absl::CancelledError(
      absl::StrCat("The call was cancelled while it waited for engine '", name(), "'."));
}

absl::Status EngineCore::StoppedError() const {
  return absl::CancelledError(absl::StrCat("Engine '", name(), "' was stopped."));
}

}  // namespace tfipu
