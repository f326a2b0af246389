#include "cc/base/deadline_watcher.h"

#include <pthread.h>

#include <system_error>
#include <utility>

namespace tfipu {

void DeadlineWatcher::Watch(Time time, const Look& look) {
  // Whoever sees an earlier time here will be followed by a look that finds what this call has put there: the
  // thread takes its next time away before it looks.
  if (time >= state_->next.load()) return;
  std::lock_guard<std::mutex> lock(state_->mutex);
  if (state_->stopping || time >= state_->next.load()) return;
  state_->next.store(time);
  if (started_) {
    state_->changed.notify_one();
    return;
  }
  try {
    thread_ = std::thread([state = state_, look] { Work(state, look); });
    started_ = true;
  } catch (const std::system_error&) {
    // Tried again with the next call.
    state_->next.store(Time::max());
  }
}

void DeadlineWatcher::Work(const std::shared_ptr<State>& state, const Look& look) {
  pthread_setname_np(pthread_self(), "ipu_deadlines");
  std::unique_lock<std::mutex> lock(state->mutex);
  while (!state->stopping) {
    const Time wake_up = state->next.load();
    const Time now = std::chrono::steady_clock::now();
    if (wake_up == Time::max()) {
      state->changed.wait(lock);
    } else if (now < wake_up) {
      state->changed.wait_until(lock, wake_up);
    } else {
      state->next.store(Time::max());
      lock.unlock();
      const Time next = look(now);
      lock.lock();
      if (next < state->next.load()) state->next.store(next);
    }
  }
}

void DeadlineWatcher::Stop() {
  std::thread thread;
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stopping = true;
    thread.swap(thread_);
  }
  state_->changed.notify_all();
  if (!thread.joinable()) return;
  if (thread.get_id() == std::this_thread::get_id()) {
    thread.detach();
  } else {
    thread.join();
  }
}

}  // namespace tfipu
