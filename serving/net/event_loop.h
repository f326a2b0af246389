// A thread that waits for sockets, for other threads' messages and for points in time. Plain C++.
#ifndef SERVING_NET_EVENT_LOOP_H_
#define SERVING_NET_EVENT_LOOP_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "serving/net/event_wait.h"

namespace tfipu::serving::net {

// Who is told of a socket's events, on the loop's thread.
class SocketWatcher {
 public:
  virtual ~SocketWatcher() = default;
  // EPOLLIN, EPOLLOUT, ...; 0 when it asked for another turn.
  virtual void OnSocket(std::uint32_t events) = 0;
  // The round ends: what waits to be sent should go. See EventLoop::FlushAtEndOfRound().
  virtual void OnFlush() {}

 private:
  friend class EventLoop;
  bool wants_turn_ = false;
  bool wants_flush_ = false;
  SocketWatcher* next_dead_ = nullptr;
};

// A message to a loop's thread that needs no memory of its own. Is in a mailbox once at a time.
class Mail {
 public:
  // Runs on the loop's thread. May delete the mail or post it again.
  virtual void OnMail() = 0;

 protected:
  ~Mail() = default;

 private:
  friend class Mailbox;
  Mail* next_ = nullptr;
};

// Where other threads leave mail for a loop; thread-safe. Kept in the order of arrival.
class Mailbox {
 public:
  Mailbox();
  ~Mailbox();
  bool ok() const { return wake_ >= 0; }
  // Readable while there is mail.
  int descriptor() const { return wake_; }
  void Put(Mail* mail) noexcept;
  // Delivers what there is.
  void Deliver();

 private:
  const int wake_;
  std::mutex mutex_;
  Mail* first_ = nullptr;
  Mail* last_ = nullptr;
};

// The loop goes in rounds. Each: timers that are due; epoll; OnSocket() for what is ready, which reads
// requests and runs or starts their calls; mail; callbacks of AtEndOfRound(), which can start together what
// arrived together; OnFlush() for those who asked, so that answers of one round leave in one write.
//
// Everything but Post(), InThread(), ClaimIdle() and the destructor is for the loop's own thread, or for
// before Start(). Functions that take memory may throw std::bad_alloc to their caller, nothing else does.
// Watchers, mails and posted tasks must not let exceptions out; a timer's task that throws is called again.
class EventLoop {
 public:
  using TimePoint = std::int64_t;  // microseconds of the monotonic clock
  using Timers = std::multimap<TimePoint, std::function<void()>>;

  explicit EventLoop(std::chrono::microseconds spin);  // see EventWait
  // Stops the thread; what was posted and has not run is dropped.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // False when the system refuses a descriptor; the loop must not be started then.
  bool ok() const { return epoll_ >= 0 && mailbox_.ok(); }
  // False when the system refuses a thread.
  bool Start();
  void Stop();

  // The loop whose thread this is; null on other threads.
  static EventLoop* Current() { return current_; }
  bool InThread() const { return current_ == this; }

  // Runs `task` on the loop's thread, later. From any thread.
  void Post(std::function<void()> task);
  void Post(Mail* mail) noexcept { mailbox_.Put(mail); }

  // Whether the thread waits for something to do, and nobody else has asked since. From any thread.
  bool ClaimIdle() { return idle_.load(std::memory_order_relaxed) && idle_.exchange(false); }

  bool Watch(int fd, std::uint32_t events, SocketWatcher* watcher);
  // Events that were fetched already are not delivered, nor what the watcher asked for below.
  void Unwatch(int fd, SocketWatcher* watcher);
  // Deletes it when the round ends, or the loop. It must not be watched any more.
  void DeleteLater(SocketWatcher* watcher);

  // Calls `callback` once, when all sockets that were ready in this round have been read and what they
  // brought has been given to its handlers, before answers are sent: what arrived together can be started
  // together. Asked for from such a callback, it is called at the end of the next round, which comes at once.
  void AtEndOfRound(std::function<void()> callback) { at_end_.push_back(std::move(callback)); }
  bool HasEndOfRound() const { return !at_end_.empty(); }
  // Calls OnFlush() when the round ends, after the callbacks of AtEndOfRound(); earlier when other sockets
  // keep the loop busy for longer than kFlushAfter. Asking twice is once.
  void FlushAtEndOfRound(SocketWatcher* watcher);
  // Calls OnSocket(0) in the next round, which comes at once: for who has more to do than is fair to the
  // rest.
  void NextRound(SocketWatcher* watcher);

  Timers::iterator AddTimer(TimePoint when, std::function<void()> task) {
    return timers_.emplace(when, std::move(task));
  }
  void RemoveTimer(Timers::iterator timer) { timers_.erase(timer); }

  static TimePoint Now();
  // When this round's events came.
  TimePoint round_start() const { return round_start_; }

  // Memory for reading from sockets, shared by all of the loop's.
  static constexpr int kReadBuffer = 256 << 10;
  char* read_buffer() { return read_buffer_.get(); }

  // How long answers may wait for other sockets of the round, in microseconds.
  static constexpr TimePoint kFlushAfter = 100;

 private:
  void Run();
  void RunSockets(int ready);
  void GiveTurns();
  void EndRound();
  void Flush();
  void DeleteDead();
  // Milliseconds until the next timer, -1 without any.
  int RunTimers();

  static constexpr int kEvents = 64;
  static thread_local EventLoop* current_;

  EventWait wait_;
  const int epoll_;
  Mailbox mailbox_;
  std::unique_ptr<char[]> read_buffer_;
  std::thread thread_;
  bool stopped_ = false;  // only on the thread
  TimePoint round_start_;
  Timers timers_;
  epoll_event events_[kEvents];
  SocketWatcher* fetched_[kEvents];
  int fetched_count_ = 0;
  std::vector<SocketWatcher*> turns_, flushes_;
  TimePoint flush_asked_ = 0;
  std::vector<std::function<void()>> at_end_;
  SocketWatcher* dead_ = nullptr;

  std::atomic<bool> idle_{false};
};

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_EVENT_LOOP_H_
