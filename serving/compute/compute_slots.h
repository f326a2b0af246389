// Threads for work that is not short: as many compute at once as there are slots.
#ifndef SERVING_COMPUTE_COMPUTE_SLOTS_H_
#define SERVING_COMPUTE_COMPUTE_SLOTS_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"

namespace tfipu::serving::compute {

struct ComputeSlotsOptions {
  // Tasks that compute at the same time; 0: one for each core.
  int slots = 0;
  // Called at the start of each thread. Empty: nothing.
  std::function<void()> on_thread_start = nullptr;
};

class ComputeSlots;

// A way to the slots, with bounds of its own. At most `max_running` of its tasks run at once, whether they
// compute or wait for something; `max_waiting` more wait for a slot. Thread-safe.
class ComputeQueue {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  // `slots` outlives it.
  ComputeQueue(ComputeSlots* slots, int max_running, std::size_t max_waiting);
  // Waits for everything that was accepted.
  ~ComputeQueue();
  ComputeQueue(const ComputeQueue&) = delete;
  ComputeQueue& operator=(const ComputeQueue&) = delete;

  // Runs the task on a slot, Guarded(): those of high priority first, then in order of arrival, over all
  // queues. ResourceExhausted, and the task is gone without having run, when too many wait or the system
  // gives no thread or memory.
  absl::Status Run(bool high_priority, Task task);

 private:
  friend class ComputeSlots;
  struct Lines;
  ComputeSlots* const slots_;
  const std::unique_ptr<Lines> lines_;
};

// A task that waits without computing, for a file, a lock or a device, would leave its core idle: a thread
// that was asleep at two looks in a row, and had no CPU time between them, gives its slot to another until it
// computes again. So graphs that only wait run as many at once as their queue allows, a few milliseconds
// after they begin, and graphs that compute never more than there are slots. Threads are made as they are
// needed and end when idle. Thread-safe.
class ComputeSlots {
 public:
  explicit ComputeSlots(ComputeSlotsOptions options = {});
  // All queues are gone by then.
  ~ComputeSlots();
  ComputeSlots(const ComputeSlots&) = delete;
  ComputeSlots& operator=(const ComputeSlots&) = delete;

  // Whether the calling thread is a slot's: work that it comes upon may run where it is.
  static bool InSlot();

  int slots() const;
  // Threads that there are now, for tests.
  int threads() const;

  // How often threads are looked at while tasks wait.
  static constexpr std::chrono::milliseconds kLook{5};

 private:
  friend class ComputeQueue;
  class State;
  const std::shared_ptr<State> state_;
};

}  // namespace tfipu::serving::compute

#endif  // SERVING_COMPUTE_COMPUTE_SLOTS_H_
