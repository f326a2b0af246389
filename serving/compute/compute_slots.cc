#include "serving/compute/compute_slots.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "serving/compute/guarded.h"
#include "serving/compute/thread_activity.h"

namespace tfipu::serving::compute {
namespace {

using Clock = std::chrono::steady_clock;

// An idle thread costs a stack and a wake-up less than a new one costs.
constexpr std::chrono::seconds kIdle{10};

// Threads that gave their slots away are looked at less often: hundreds of them may wait for long.
constexpr int kLooksBetweenBlocked = 8;

thread_local bool in_slot = false;

}  // namespace

// Tasks of one queue; all under State::mutex_.
struct ComputeQueue::Lines {
  struct Waiting {
    std::uint64_t number;
    Task task;
  };
  int max_running;
  std::size_t max_waiting;
  int running = 0;
  std::array<std::deque<Waiting>, 2> lines;  // high priority, normal

  std::size_t waiting() const { return lines[0].size() + lines[1].size(); }
};

// Shared by the slots and their threads, which are detached: one that has just decided to end needs nobody to
// join it.
class ComputeSlots::State : public std::enable_shared_from_this<State> {
 public:
  explicit State(ComputeSlotsOptions options)
      : options_(std::move(options)),
        slots_(options_.slots > 0 ? options_.slots
                                  : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))) {}

  int slots() const { return slots_; }
  int threads() {
    std::lock_guard<std::mutex> lock(mutex_);
    return threads_;
  }

  void Join(ComputeQueue::Lines* lines) {
    std::lock_guard<std::mutex> lock(mutex_);
    queues_.push_back(lines);
  }

  // Returns when nothing of the queue waits or runs.
  void Leave(ComputeQueue::Lines* lines) {
    std::unique_lock<std::mutex> lock(mutex_);
    quiet_.wait(lock, [&] { return lines->running == 0 && lines->waiting() == 0; });
    queues_.erase(std::find(queues_.begin(), queues_.end(), lines));
  }

  void End() {
    std::unique_lock<std::mutex> lock(mutex_);
    ending_ = true;
    work_.notify_all();
    look_.notify_all();
    quiet_.wait(lock, [&] { return threads_ == 0 && !watching_; });
  }

  absl::Status Add(ComputeQueue::Lines& lines, bool high_priority, ComputeQueue::Task task);

 private:
  struct Worker {
    ThreadActivity activity;
    bool busy = false;
    bool blocked = false;    // has given its slot away
    bool looked_at = false;  // since its task began
    std::chrono::nanoseconds cpu_time{};
  };

  void Work();
  void Watch();
  // Needs mutex_, as all below.
  bool StartThread();
  void StartWatch();
  // The queue whose task is next, or null; and the line of it.
  ComputeQueue::Lines* Next(int* line);
  bool HasSlot() const { return running_ - blocked_ < slots_ + extra_; }
  // Marks who has fallen asleep, and who computes again.
  void Look(bool blocked_too);
  void Look(Worker& worker);

  const ComputeSlotsOptions options_;
  const int slots_;

  std::mutex mutex_;
  std::condition_variable work_, look_, quiet_;
  std::vector<ComputeQueue::Lines*> queues_;
  std::vector<Worker*> workers_;  // with room for all threads
  std::uint64_t next_number_ = 0;
  std::size_t waiting_ = 0;  // tasks in all queues
  int threads_ = 0;
  int idle_ = 0;
  int starting_ = 0;
  int running_ = 0;
  int blocked_ = 0;  // of those
  int extra_ = 0;    // slots more, while all that run are blocked
  bool watching_ = false;
  bool ending_ = false;
};

absl::Status ComputeSlots::State::Add(ComputeQueue::Lines& lines, bool high_priority,
                                      ComputeQueue::Task task) {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::size_t accepted = static_cast<std::size_t>(lines.running) + lines.waiting();
  if (accepted >= lines.max_waiting + static_cast<std::size_t>(lines.max_running)) {
    return absl::ResourceExhaustedError(absl::StrCat("The server is at its limit: ", lines.running,
                                                     " calls run and ", lines.waiting(), " wait."));
  }
  std::deque<ComputeQueue::Lines::Waiting>& line = lines.lines[high_priority ? 0 : 1];
  try {
    line.push_back({next_number_++, std::move(task)});
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("There is no memory for another call.");
  }
  ++waiting_;
  const int coming = idle_ + starting_;
  if (coming < static_cast<int>(waiting_) && HasSlot() && threads_ - blocked_ < slots_ + extra_) {
    if (!StartThread() && threads_ == 0) {
      line.pop_back();
      --waiting_;
      return absl::ResourceExhaustedError("The system gives no thread for another call.");
    }
  }
  if (HasSlot()) work_.notify_one();
  if (static_cast<int>(waiting_) + running_ - blocked_ > slots_) StartWatch();
  return absl::OkStatus();
}

bool ComputeSlots::State::StartThread() {
  try {
    workers_.reserve(static_cast<std::size_t>(threads_) + 1);
    std::thread([self = shared_from_this()] { self->Work(); }).detach();
  } catch (const std::system_error&) {
    return false;
  } catch (const std::bad_alloc&) {
    return false;
  }
  ++threads_;
  ++starting_;
  return true;
}

void ComputeSlots::State::StartWatch() {
  if (watching_) {
    look_.notify_one();
    return;
  }
  try {
    std::thread([self = shared_from_this()] { self->Watch(); }).detach();
    watching_ = true;
  } catch (const std::system_error&) {
    // Without it, tasks that wait keep their slots.
  } catch (const std::bad_alloc&) {
  }
}

ComputeQueue::Lines* ComputeSlots::State::Next(int* line) {
  for (*line = 0; *line < 2; ++*line) {
    ComputeQueue::Lines* first = nullptr;
    for (ComputeQueue::Lines* lines : queues_) {
      if (lines->lines[*line].empty() || lines->running >= lines->max_running) continue;
      if (first == nullptr || lines->lines[*line].front().number < first->lines[*line].front().number) {
        first = lines;
      }
    }
    if (first != nullptr) return first;
  }
  return nullptr;
}

void ComputeSlots::State::Work() {
  pthread_setname_np(pthread_self(), "compute");
  if (options_.on_thread_start) options_.on_thread_start();
  in_slot = true;
  Worker worker;
  std::unique_lock<std::mutex> lock(mutex_);
  --starting_;
  workers_.push_back(&worker);
  while (true) {
    int line = 0;
    ComputeQueue::Lines* const lines = HasSlot() ? Next(&line) : nullptr;
    if (lines != nullptr) {
      ComputeQueue::Task task = std::move(lines->lines[line].front().task);
      lines->lines[line].pop_front();
      --waiting_;
      ++lines->running;
      ++running_;
      worker.busy = true;
      worker.looked_at = false;
      lock.unlock();
      Guarded(std::move(task));
      task = nullptr;
      lock.lock();
      worker.busy = false;
      if (std::exchange(worker.blocked, false)) --blocked_;
      --running_;
      --lines->running;
      if (lines->running == 0 && lines->waiting() == 0) quiet_.notify_all();
      continue;
    }
    if (ending_) break;
    ++idle_;
    const bool timed_out = work_.wait_for(lock, kIdle) == std::cv_status::timeout;
    --idle_;
    if (timed_out && waiting_ == 0) break;
  }
  workers_.erase(std::find(workers_.begin(), workers_.end(), &worker));
  --threads_;
  quiet_.notify_all();
}

void ComputeSlots::State::Watch() {
  pthread_setname_np(pthread_self(), "compute_watch");
  std::unique_lock<std::mutex> lock(mutex_);
  for (int look = 0; !ending_; ++look) {
    if (waiting_ == 0) {
      extra_ = 0;
      look_.wait(lock);
      continue;
    }
    // By hand, as a notification for each task that waits is no reason to look.
    const Clock::time_point next = Clock::now() + kLook;
    while (!ending_ && look_.wait_until(lock, next) != std::cv_status::timeout) {
    }
    Look(look % kLooksBetweenBlocked == 0);
    for (int more = static_cast<int>(waiting_);
         more > idle_ + starting_ && HasSlot() && threads_ - blocked_ < slots_ + extra_ && StartThread();) {
    }
    if (waiting_ > 0 && HasSlot()) work_.notify_all();
  }
  watching_ = false;
  quiet_.notify_all();
}

void ComputeSlots::State::Look(bool blocked_too) {
  for (Worker* worker : workers_) {
    if (worker->busy && (blocked_too || !worker->blocked)) Look(*worker);
  }
  // While all do nothing but wait, more are let in than have fallen asleep: twice as many each time.
  extra_ = running_ > 0 && blocked_ == running_ ? blocked_ : 0;
}

void ComputeSlots::State::Look(Worker& worker) {
  const std::chrono::nanoseconds cpu_time = worker.activity.CpuTime();
  const bool computed = !worker.looked_at || cpu_time != worker.cpu_time;
  worker.looked_at = true;
  worker.cpu_time = cpu_time;
  const bool blocked = !computed && worker.activity.Asleep();
  if (blocked == worker.blocked) return;
  worker.blocked = blocked;
  blocked_ += blocked ? 1 : -1;
}

ComputeQueue::ComputeQueue(ComputeSlots* slots, int max_running, std::size_t max_waiting)
    : slots_(slots), lines_(std::make_unique<Lines>()) {
  lines_->max_running = std::max(1, max_running);
  lines_->max_waiting = max_waiting;
  slots_->state_->Join(lines_.get());
}

ComputeQueue::~ComputeQueue() { slots_->state_->Leave(lines_.get()); }

absl::Status ComputeQueue::Run(bool high_priority, Task task) {
  return slots_->state_->Add(*lines_, high_priority, std::move(task));
}

ComputeSlots::ComputeSlots(ComputeSlotsOptions options)
    : state_(std::make_shared<State>(std::move(options))) {}

ComputeSlots::~ComputeSlots() { state_->End(); }

bool ComputeSlots::InSlot() { return in_slot; }

int ComputeSlots::slots() const { return state_->slots(); }

int ComputeSlots::threads() const { return state_->threads(); }

}  // namespace tfipu::serving::compute
