#include "serving/net/workers.h"

#include <pthread.h>

#include <exception>

namespace tfipu::serving::net {

Workers::~Workers() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool Workers::Do(Work* work) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  if (idle_ == 0 && threads_.size() < most_) {
    try {
      threads_.emplace_back([this] { Run(); });
    } catch (const std::exception&) {
      if (threads_.empty()) return false;
    }
  }
  work->next_ = nullptr;
  (first_ == nullptr ? first_ : last_->next_) = work;
  last_ = work;
  changed_.notify_one();
  return true;
}

void Workers::Run() {
  pthread_setname_np(pthread_self(), "io-worker");
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    if (first_ == nullptr) {
      if (ends_) return;
      ++idle_;
      changed_.wait(lock);
      --idle_;
      continue;
    }
    Work* const work = first_;
    first_ = work->next_;
    lock.unlock();
    const bool more = work->DoPart();
    lock.lock();
    if (!more) continue;
    work->next_ = nullptr;
    (first_ == nullptr ? first_ : last_->next_) = work;
    last_ = work;
  }
}

}  // namespace tfipu::serving::net
