// The threads that all servers of a process read and write on. Plain C++.
#ifndef SERVING_NET_IO_THREADS_H_
#define SERVING_NET_IO_THREADS_H_

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serving/net/event_loop.h"
#include "serving/net/workers.h"

namespace tfipu::serving::net {

// A number of running loops, and workers for what they must not do themselves. Servers that use them are shut
// down before they go.
class IoThreads {
 public:
  // Null, and `*error` says why, when the system refuses descriptors or threads. `count` 0: one a core.
  static std::shared_ptr<IoThreads> Start(int count, std::chrono::microseconds spin, std::string* error);
  ~IoThreads();
  IoThreads(const IoThreads&) = delete;
  IoThreads& operator=(const IoThreads&) = delete;

  std::size_t size() const { return loops_.size(); }
  EventLoop* loop(std::size_t index) const { return loops_[index].get(); }
  Workers* workers() const { return workers_.get(); }

  // Runs `function` once on each loop's thread, and returns when all have. Not from these threads.
  void RunOnEach(const std::function<void(std::size_t index)>& function);

 private:
  IoThreads() = default;
  std::vector<std::unique_ptr<EventLoop>> loops_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_IO_THREADS_H_
