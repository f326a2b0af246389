#include "serving/core/task_queue.h"

#include <pthread.h>

#include <algorithm>

#include "absl/time/clock.h"

namespace tfipu::serving {

TaskQueue::TaskQueue(std::string name, int max_threads)
    : name_(std::move(name)), max_threads_(std::max(1, max_threads)) {}

TaskQueue::~TaskQueue() { Stop(); }

void TaskQueue::Add(std::function<void()> task, absl::Time due) {
  absl::MutexLock lock(&mutex_);
  if (stopped_) return;
  tasks_.emplace(std::make_pair(due, next_number_++), std::move(task));
  if (idle_ == 0 && static_cast<int>(threads_.size()) < max_threads_) {
    threads_.emplace_back([this] { Work(); });
    pthread_setname_np(threads_.back().native_handle(), name_.c_str());
  }
  changed_.Signal();
}

void TaskQueue::Stop() {
  std::vector<std::thread> threads;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    threads.swap(threads_);
    changed_.SignalAll();
  }
  for (std::thread& thread : threads) thread.join();
}

void TaskQueue::Work() {
  absl::MutexLock lock(&mutex_);
  while (true) {
    const absl::Time due = tasks_.empty() ? absl::InfiniteFuture() : tasks_.begin()->first.first;
    if (due <= absl::Now()) {
      std::function<void()> task = std::move(tasks_.begin()->second);
      tasks_.erase(tasks_.begin());
      mutex_.Unlock();
      task();
      task = nullptr;
      mutex_.Lock();
      continue;
    }
    if (stopped_) return;
    ++idle_;
    changed_.WaitWithDeadline(&mutex_, due);
    --idle_;
  }
}

}  // namespace tfipu::serving
