#include "serving/api/call_pool.h"

#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace tfipu::serving {
namespace {

// An idle thread costs a stack and a wake-up less than a new one costs.
constexpr absl::Duration kIdle = absl::Seconds(10);

}  // namespace

// Shared by the pool and its threads, which are detached: one that has just decided to end needs nobody to
// join it.
class CallPool::State {
 public:
  State(int max_threads, std::size_t max_queued) : max_threads_(max_threads), max_queued_(max_queued) {}

  absl::Status Add(const std::shared_ptr<State>& self, std::function<void()> call) {
    absl::MutexLock lock(&mutex_);
    // Those that have been woken or made for calls in the queue have not taken them yet.
    const std::size_t free = static_cast<std::size_t>(idle_ + starting_);
    if (queue_.size() >= max_queued_ + free + static_cast<std::size_t>(max_threads_ - threads_)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("The server is at its limit: ", threads_, " calls run and ", queue_.size(), " wait."));
    }
    queue_.push_back(std::move(call));
    if (queue_.size() > free && threads_ < max_threads_) {
      ++threads_;
      ++starting_;
      std::thread([self] { self->Work(); }).detach();
    } else {
      work_.Signal();
    }
    return absl::OkStatus();
  }

  void Drain() {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
    work_.SignalAll();
    while (threads_ > 0) ended_.Wait(&mutex_);
  }

 private:
  void Work() {
    absl::MutexLock lock(&mutex_);
    --starting_;
    while (true) {
      while (!queue_.empty()) {
        std::function<void()> call = std::move(queue_.front());
        queue_.pop_front();
        mutex_.Unlock();
        call();
        call = nullptr;
        mutex_.Lock();
      }
      if (ending_) break;
      ++idle_;
      const bool timed_out = work_.WaitWithTimeout(&mutex_, kIdle);
      --idle_;
      if (timed_out && queue_.empty()) break;
    }
    --threads_;
    ended_.Signal();
  }

  const int max_threads_;
  const std::size_t max_queued_;
  absl::Mutex mutex_;
  absl::CondVar work_, ended_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  int threads_ ABSL_GUARDED_BY(mutex_) = 0;
  int idle_ ABSL_GUARDED_BY(mutex_) = 0;
  int starting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
};

CallPool::CallPool(int max_threads, std::size_t max_queued)
    : state_(std::make_shared<State>(max_threads < 1 ? 1 : max_threads, max_queued)) {}

CallPool::~CallPool() { state_->Drain(); }

absl::Status CallPool::Run(bool expected_short, std::function<void()> call) {
  if (expected_short) {
    call();
    return absl::OkStatus();
  }
  return state_->Add(state_, std::move(call));
}

}  // namespace tfipu::serving
