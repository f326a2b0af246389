// A thread that sleeps until the earliest of many times.
#ifndef CC_BASE_DEADLINE_WATCHER_H_
#define CC_BASE_DEADLINE_WATCHER_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace tfipu {

// Under steady deadlines the thread is never woken by Watch(): each is later than the one it sleeps until.
// Thread-safe.
class DeadlineWatcher {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // Called in the watcher's thread when a watched time has come; returns the next that it knows of,
  // Time::max() for none. It may destroy the watcher.
  using Look = std::function<Time(Time now)>;

  DeadlineWatcher() = default;
  // Stops.
  ~DeadlineWatcher() { Stop(); }
  DeadlineWatcher(const DeadlineWatcher&) = delete;
  DeadlineWatcher& operator=(const DeadlineWatcher&) = delete;

  // Has `look` called at `time` or soon after. The first call starts the thread, which holds `look` until it
  // has ended; where no thread can be had, times are not watched. What is to be found at that time must be
  // there before this is called.
  void Watch(Time time, const Look& look);

  // Ends the thread, and waits for it unless it is the calling one. Idempotent; later calls of Watch() do
  // nothing.
  void Stop();

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::atomic<Time> next{Time::max()};  // when the thread wakes up; written under the mutex
    bool stopping = false;
  };
  static void Work(const std::shared_ptr<State>& state, const Look& look);

  const std::shared_ptr<State> state_ = std::make_shared<State>();
  std::thread thread_;    // guarded by the mutex
  bool started_ = false;  // guarded by the mutex
};

}  // namespace tfipu

#endif  // CC_BASE_DEADLINE_WATCHER_H_
