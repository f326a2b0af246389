// A thread that waits for sockets, for other threads' messages and for points in time.
#ifndef SERVING_GRPC_IO_LOOP_H_
#define SERVING_GRPC_IO_LOOP_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "serving/core/event_wait.h"

namespace tfipu::serving {

// Who is told of a socket's events.
class SocketWatcher {
 public:
  // EPOLLIN, EPOLLOUT, ... Runs on the loop's thread. May delete the watcher.
  virtual void OnSocket(std::uint32_t events) = 0;

 protected:
  ~SocketWatcher() = default;
};

// Everything but Post(), InThread() and the destructor is for the loop's own thread, or for before Start().
class IoLoop {
 public:
  using TimePoint = std::int64_t;  // microseconds of the monotonic clock
  using Timers = std::multimap<TimePoint, std::function<void()>>;

  explicit IoLoop(std::chrono::microseconds spin);  // see EventWait
  // Stops the thread; what was posted and has not run is dropped.
  ~IoLoop();
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;

  // False when the system refuses a descriptor; the loop must not be started then.
  bool ok() const { return epoll_ >= 0 && wake_ >= 0; }
  void Start();
  void Stop();

  // Runs `task` on the loop's thread, later. From any thread.
  void Post(std::function<void()> task);
  bool InThread() const { return running_here_ == this; }

  // Whether the thread waits for something to do, and nobody else has asked since. From any thread.
  bool ClaimIdle() { return idle_.load(std::memory_order_relaxed) && idle_.exchange(false); }

  bool Watch(int fd, std::uint32_t events, SocketWatcher* watcher);
  void Rewatch(int fd, std::uint32_t events, SocketWatcher* watcher);
  // A watcher may be deleted after this; events that were fetched already are not delivered.
  void Unwatch(int fd, SocketWatcher* watcher);

  Timers::iterator AddTimer(TimePoint when, std::function<void()> task) {
    return timers_.emplace(when, std::move(task));
  }
  void RemoveTimer(Timers::iterator timer) { timers_.erase(timer); }

  static TimePoint Now();

  // Memory for reading from sockets, shared by all of the loop's.
  static constexpr int kReadBuffer = 256 << 10;
  char* read_buffer() { return read_buffer_.get(); }

 private:
  void Run();
  void RunTasks();
  // Milliseconds until the next timer, -1 without any.
  int RunTimers();

  static thread_local const IoLoop* running_here_;

  EventWait wait_;
  const int epoll_;
  const int wake_;
  std::unique_ptr<char[]> read_buffer_;
  std::thread thread_;
  bool stopped_ = false;  // only on the thread
  Timers timers_;
  std::vector<SocketWatcher*> fetched_;

  std::atomic<bool> idle_{false};

  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;
  bool woken_ = false;
};

}  // namespace tfipu::serving

#endif  // SERVING_GRPC_IO_LOOP_H_
