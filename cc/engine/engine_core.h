// What an engine and its threads share, so that neither needs the other to live.
#ifndef CC_ENGINE_ENGINE_CORE_H_
#define CC_ENGINE_ENGINE_CORE_H_

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cc/base/deadline_watcher.h"
#include "cc/base/histogram.h"
#include "cc/base/run_times.h"
#include "cc/engine/answers.h"
#include "cc/engine/call_queue.h"
#include "cc/engine/engine.h"
#include "cc/engine/feed_layout.h"
#include "cc/engine/replica.h"

namespace tfipu {

// `now` plus the duration, without overflow.
SteadyTime After(SteadyTime now, absl::Duration duration);

// The methods are Engine's. A device that is run step by step (ExecutionMode) is run by whoever has work for
// it and finds it free: a thread of the engine, or one that is inside RunHere(). Any other device is run by a
// thread of its own without a break.
//
// One lock, mutex_, guards the queue, all calls' counters, and which step is where. Nothing blocks or calls
// out while it is held, but for Call::cancelled, which reads a flag. A call's buffers and a step's contents
// belong to whoever holds the step: the replica's thread while it is put together, then the device, then the
// thread in StepDone().
class EngineCore : public std::enable_shared_from_this<EngineCore> {
 public:
  EngineCore(EngineOptions options, std::shared_ptr<Program> program, FeedLayout layout);

  absl::Status Start(absl::Span<const ConstBuffer> startup_inputs);
  CallId Add(Call call);
  void Wake();
  void RunHere(Engine::Patience patience);
  bool Cancel(CallId id);
  void Stop();

  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }
  const std::string& name() const { return options_.name; }
  const Executable& executable() const { return program_->executable(); }
  EngineStatistics Statistics();

 private:
  // What a device is given and gives back.
  struct ReplicaSteps final : public StepSource {
    ReplicaSteps(EngineCore* core, Replica* replica) : core(core), replica(replica) {}
    Step* NextStep() override { return core->NextStep(*replica); }
    void StepDone(Step* step) override { core->StepDone(*replica, static_cast<EngineStep*>(step)); }
    void RunEnded() override { core->RunEnded(); }
    void Interrupt() override { core->Interrupt(*replica); }
    EngineCore* const core;
    Replica* const replica;
  };

  absl::Status CheckStartupInputs(absl::Span<const ConstBuffer> startup_inputs) const;
  absl::Status StartThread(int replica);
  void RunWithoutBreak(Replica& replica);
  void RunStepByStep();
  // Runs the device until it is told to end, and answers for its failure. False when the engine has ended.
  bool RunDevice(Replica& replica);
  // The device's way to its steps.
  Step* NextStep(Replica& replica);
  void StepDone(Replica& replica, EngineStep* step);
  void RunEnded();
  void Interrupt(Replica& replica);
  // Answers calls that have expired or are not wanted any more; returns when to look again.
  SteadyTime AnswerExpired(SteadyTime now);

  // All below need mutex_.

  absl::Status Queue(std::unique_ptr<PendingCall>& pending);
  // When a device can begin a step with what is queued, which is not nothing. `running`: other devices that
  // are inside a step now.
  SteadyTime ReadyAt(std::size_t running);
  std::size_t Running() const { return step_by_step_ ? replicas_.size() - free_.size() : 0; }
  // Whether an idle thread is needed for what is queued.
  bool NeedsThread();
  // How long the next step is expected to take, and all that is queued; nothing when that is not known.
  std::optional<std::chrono::duration<float, std::micro>> NextStepTime() const;
  bool QueueIsWorthAThread() const;
  void WaitForWork(std::unique_lock<std::mutex>& lock, SteadyTime until);
  // Whether the caller that runs the device has done enough.
  bool CallerLeaves(Replica& replica, SteadyTime now);
  void SetFree(Replica& replica);
  // Takes rows off the queue into a step of the replica; null when what was queued is not to be run any more.
  EngineStep* TakeStep(Replica& replica, SteadyTime now, Answers& answers);
  // Null when there is no memory for one.
  EngineStep* TakeDummyStep(Replica& replica);
  void Fill(EngineStep& step, SteadyTime now, Answers& answers);
  // A step that could not be put together.
  void Abandon(Replica& replica, EngineStep* step, const absl::Status& status, Answers& answers);
  void LeaveStep(const StepPart& part, const absl::Status& status, Answers& answers);
  // Fails a call that was taken out of the queue: at once, or when its last part leaves its device.
  void Fail(PendingCall* call, absl::Status status, Answers& answers);
  void FailQueue(const absl::Status& status, Answers& answers);
  // Answers a call that is nowhere any more.
  void Conclude(PendingCall* call, Answers& answers);
  bool Ended() const { return stopping_ || !failure_.ok(); }

  absl::Status ExpiredError() const;
  absl::Status GivenUpError() const;
  absl::Status StoppedError() const;

  const EngineOptions options_;
  const std::shared_ptr<Program> program_;
  const FeedLayout layout_;
  const int hold_;
  const bool step_by_step_;
  const absl::Duration timeout_;
  const absl::Duration max_wait_;
  std::vector<std::unique_ptr<Replica>> replicas_;
  std::vector<RecentTime> step_times_;  // by position in layout_.step_rows; of devices run step by step

  std::mutex mutex_;
  std::condition_variable work_;      // calls came, or the end
  std::condition_variable joined_;    // all threads ended
  std::condition_variable all_free_;  // no device runs any more
  std::vector<Replica*> free_;        // devices that are run step by step and nobody runs now
  CallQueue queue_;
  CallId last_id_ = 0;
  int idle_ = 0;  // threads that wait for work_
  int wait_for_company_ =
      0;  // of those, threads that will begin a step when its oldest row has waited enough
  bool stopping_ = false;
  std::atomic<bool> stopped_{false};  // the same, for those without the lock
  bool all_joined_ = false;
  absl::Status failure_;  // every later call gets it
  std::vector<std::thread> threads_;
  EngineStatistics counts_;  // its histograms are not used

  DeadlineWatcher deadlines_;
  DeadlineWatcher::Look look_;

  Histogram fill_;
  Histogram queue_time_;
  Histogram device_time_;
  Histogram call_time_;
};

}  // namespace tfipu

#endif  // CC_ENGINE_ENGINE_CORE_H_
