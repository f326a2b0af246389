// The steps that a device of a plugin works on.
#ifndef CC_DEVICE_PJRT_FLIGHTS_H_
#define CC_DEVICE_PJRT_FLIGHTS_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cc/base/buffer.h"
#include "cc/device/device.h"
#include "cc/device/pjrt/buffers.h"

namespace tfipu {

// One step inside the plugin. What it holds outlives the step's own buffers, as a plugin that hangs may write
// to it after the step was given up: results reach the step by a copy.
struct Flight {
  struct Result {
    std::size_t outfeed = 0;
    std::size_t size = 0;
    std::shared_ptr<DeviceBuffer> buffer;  // read by pointer when it is ready, or
    AlignedBuffer staging;                 // what the plugin copied it to
  };

  Step* step = nullptr;
  std::shared_ptr<const void> program;                 // code that runs
  std::vector<std::shared_ptr<DeviceBuffer>> buffers;  // that it reads and writes
  std::vector<Result> results;

  // Guarded by the mutex of its Flights:
  int pending = 0;  // events that have not come
  absl::Status status;
};

// Hands steps out in order, whatever order the plugin finishes them in. Shared with the plugin's callbacks,
// so that one that comes too late finds it. Thread-safe.
//
// States: Begin() -> running -> End() -> idle. A failure gives up all steps inside: nothing touches them any
// more once End() has returned.
class Flights : public std::enable_shared_from_this<Flights> {
 public:
  // With `room` for one step, the thread inside Device::Run() hands it out. With more, that thread may wait
  // for further steps, and the plugin's threads do.
  Flights(const Plugin* plugin, std::size_t room, absl::Duration step_timeout);

  void Begin(StepSource* source);

  // The next step, once there is room for it. Null when the source ended, or a failure did.
  Step* Next();

  // Counts the step as inside. The launching thread is one of the events it waits for.
  void Enter(const std::shared_ptr<Flight>& flight);
  // The flight also waits for the event, which may be null.
  void Await(const std::shared_ptr<Flight>& flight, PJRT_Event* event);
  // All is enqueued, or failed. With room for one step, returns when it was handed out or has failed.
  void Launched(const std::shared_ptr<Flight>& flight, absl::Status status);

  // Waits until no step is inside. The failure, if there was one.
  std::optional<DeviceFailure> End();

  void Reset();

  // Fails the run when its oldest step is inside for too long. From a thread that does nothing else; returns
  // when Stop() was called. Needed only with room for several steps.
  void Watch();
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;

  // All below need mutex_.
  void Arrived(const std::shared_ptr<Flight>& flight, const absl::Status& status);
  void Release(std::unique_lock<std::mutex>& lock);
  void Fail(DeviceFailure failure);
  // Waits for a change, at most until the oldest step is overdue, which is a failure.
  void WaitForPlugin(std::unique_lock<std::mutex>& lock);
  bool Overdue() const;
  void FailOverdue();

  // Not holding mutex_.
  absl::Status Deliver(const Flight& flight) const;

  const Plugin* const plugin_;
  const std::size_t room_;
  const Clock::duration step_timeout_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable watch_;
  StepSource* source_ = nullptr;
  std::deque<std::shared_ptr<Flight>> inside_;  // in order of entry
  Clock::time_point front_since_;
  bool releasing_ = false;
  bool waiting_for_source_ = false;
  bool interrupted_ = false;
  bool stopping_ = false;
  std::optional<DeviceFailure> failure_;
};

// What a plugin's error means for the engine: memory that is not there may be there for the next step.
DeviceFailure FailureOf(const absl::Status& status);

}  // namespace tfipu

#endif  // CC_DEVICE_PJRT_FLIGHTS_H_
