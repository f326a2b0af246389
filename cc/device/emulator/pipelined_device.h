// An emulated device whose stages overlap: a thread for each emulated IPU but, where the plan allows it, the
// first.
#ifndef CC_DEVICE_EMULATOR_PIPELINED_DEVICE_H_
#define CC_DEVICE_EMULATOR_PIPELINED_DEVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <type_traits>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "cc/device/device.h"
#include "cc/device/emulator/stage_runner.h"

namespace tfipu {

// For plans of several lanes, or whose results wait for further steps. Stages run as soon as their arguments
// are there; a step's results are handed out in order, when the steps that must have entered behind it have.
// Dummy steps count as entered and are not computed: carried values pass them unchanged.
class PipelinedDevice : public Device {
 public:
  explicit PipelinedDevice(std::unique_ptr<StageRunner> runner);
  ~PipelinedDevice() override;

  std::optional<DeviceFailure> Run(StepSource& source) override;
  absl::Status Reset() override;

 private:
  struct LaneState {
    std::thread thread;
    absl::CondVar wake;
    bool waiting = false;
  };

  template <typename Function>
  std::invoke_result_t<Function> Unlocked(Function function) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    struct Unlock {
      explicit Unlock(absl::Mutex* mutex) : mutex(mutex) { mutex->Unlock(); }
      ~Unlock() { mutex->Lock(); }
      absl::Mutex* mutex;
    } unlock(&mutex_);
    return function();
  }

  void Enter(Step* step, bool& first_in_run) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Ready(std::uint32_t s) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Runs the next step of a stage that is ready.
  void Work(std::uint32_t s) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Fail(DeviceFailure failure) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeLanes() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ServeLane(std::size_t lane);
  // The last of the lane's stages that is ready: what is nearest to leaving goes first.
  std::optional<std::uint32_t> Pick(std::size_t lane) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the oldest step inside is computed and may leave.
  bool MayLeave() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One thread hands out results at a time; what becomes ready meanwhile is left to it.
  void Release() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Plan& plan() const { return runner_->plan(); }
  const ExecutableHeader& header() const { return runner_->header(); }

  const std::unique_ptr<StageRunner> runner_;
  absl::Mutex mutex_;
  absl::CondVar enter_;  // for the thread inside Run()
  StepSource* source_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::vector<StepInside> entries_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::size_t> slot_of_ ABSL_GUARDED_BY(mutex_);      // of real step n, at n modulo slots
  std::vector<std::uint64_t> completed_ ABSL_GUARDED_BY(mutex_);  // real steps, by stage
  std::vector<LaneState> lanes_;
  std::uint64_t entered_ ABSL_GUARDED_BY(mutex_) = 0;  // steps, with dummies
  std::uint64_t released_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t real_entered_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t in_run_ ABSL_GUARDED_BY(mutex_) = 0;
  int busy_ ABSL_GUARDED_BY(mutex_) = 0;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool releasing_ ABSL_GUARDED_BY(mutex_) = false;
  bool waiting_for_source_ ABSL_GUARDED_BY(mutex_) = false;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<DeviceFailure> failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_PIPELINED_DEVICE_H_
