// How an IO thread waits for its sockets.
#ifndef SERVING_NET_EVENT_WAIT_H_
#define SERVING_NET_EVENT_WAIT_H_

#include <sched.h>
#include <sys/epoll.h>

#include <chrono>

namespace tfipu::serving::net {

// Waits for events of one epoll set. When the last ones came within microseconds, as from a client that asks
// again as soon as it is answered, it looks for the next ones for up to `spin` before it sleeps: to fall
// asleep and be woken costs the CPU and the client more than that. A set whose events are further apart is
// never looked at in vain. Plain C++, as the transports are. For one thread.
class EventWait {
 public:
  // Zero: always sleeps at once.
  explicit EventWait(std::chrono::microseconds spin) : spin_(spin) {}

  // epoll_wait().
  int Wait(int epoll, epoll_event* events, int capacity, int timeout_ms) {
    if (timeout_ms == 0 || spin_.count() <= 0) return epoll_wait(epoll, events, capacity, timeout_ms);
    const Clock::time_point start = Clock::now();
    while (soon_) {
      const int ready = epoll_wait(epoll, events, capacity, 0);
      if (ready != 0) return ready;
      soon_ = Clock::now() - start < spin_;
      // Whoever else could use the core goes first.
      sched_yield();
    }
    const int ready = epoll_wait(epoll, events, capacity, timeout_ms);
    soon_ = Clock::now() - start < spin_ + kWakeUp;
    return ready;
  }

  // Whether the next events are expected within `spin`, and so looked for.
  bool expects_soon() const { return soon_; }

 private:
  using Clock = std::chrono::steady_clock;

  // What a sleep takes longer than what it waited for.
  static constexpr std::chrono::microseconds kWakeUp{30};

  const std::chrono::microseconds spin_;
  bool soon_ = false;
};

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_EVENT_WAIT_H_
