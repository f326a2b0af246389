#include "serving/core/task_queue.h"

#include <pthread.h>

#include <algorithm>
#include <exception>

#include "absl/time/clock.h"
#include "serving/core/log.h"

namespace tfipu::serving {

TaskQueue::TaskQueue(std::string name, int max_threads)
    : name_(std::move(name)), max_threads_(std::max(1, max_threads)) {
  absl::MutexLock lock(&mutex_);
  MakeThread();
}

TaskQueue::~TaskQueue() { Stop(); }

void TaskQueue::MakeThread() {
  const std::uint64_t id = next_number_++;
  ended_.reserve(ended_.size() + threads_.size() + 1);  // so that a thread can always end
  const auto place = threads_.emplace(id, std::thread()).first;
  try {
    place->second = std::thread([this, id] { Work(id); });
  } catch (...) {
    threads_.erase(place);
    throw;
  }
  pthread_setname_np(place->second.native_handle(), name_.c_str());
}

void TaskQueue::MakeThreadIfNeeded() {
  if (tasks_.empty() || tasks_.begin()->first.first > absl::Now()) return;
  if (idle_ > 0 || static_cast<int>(threads_.size()) >= max_threads_) return;
  try {
    MakeThread();
  } catch (const std::exception& error) {
    LogWarning("No further thread \"", name_, "\" can be made (", error.what(), "): ", threads_.size(),
               " do the work.");
  }
}

void TaskQueue::Add(std::function<void()> task, absl::Time due) {
  absl::MutexLock lock(&mutex_);
  if (stopped_) return;
  tasks_.emplace(std::make_pair(due, next_number_++), std::move(task));
  MakeThreadIfNeeded();
  changed_.Signal();
}

void TaskQueue::AddThread() {
  absl::MutexLock lock(&mutex_);
  ++max_threads_;
  MakeThreadIfNeeded();
}

void TaskQueue::RemoveThread() {
  absl::MutexLock lock(&mutex_);
  --max_threads_;
  changed_.SignalAll();
}

bool TaskQueue::Stop(absl::Time deadline) {
  std::vector<std::thread> threads;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    changed_.SignalAll();
    while (!threads_.empty()) {
      if (changed_.WaitWithDeadline(&mutex_, deadline) && !threads_.empty()) return false;
    }
    threads.swap(ended_);
  }
  for (std::thread& thread : threads) thread.join();
  return true;
}

void TaskQueue::Work(std::uint64_t id) {
  absl::MutexLock lock(&mutex_);
  while (true) {
    const absl::Time due = tasks_.empty() ? absl::InfiniteFuture() : tasks_.begin()->first.first;
    const bool too_many = static_cast<int>(threads_.size()) > max_threads_;
    if (due <= absl::Now() && !too_many) {
      std::function<void()> task = std::move(tasks_.begin()->second);
      tasks_.erase(tasks_.begin());
      MakeThreadIfNeeded();
      mutex_.Unlock();
      try {
        task();
        task = nullptr;
      } catch (const std::exception& error) {
        LogError("Thread \"", name_, "\": ", error.what());
      }
      mutex_.Lock();
      continue;
    }
    if (stopped_ || too_many) {
      const auto self = threads_.find(id);
      ended_.push_back(std::move(self->second));
      threads_.erase(self);
      changed_.SignalAll();
      return;
    }
    ++idle_;
    changed_.WaitWithDeadline(&mutex_, due);
    --idle_;
  }
}

}  // namespace tfipu::serving
