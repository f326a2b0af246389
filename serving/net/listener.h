// Sockets that listen, and who gets the connections. Plain C++.
#ifndef SERVING_NET_LISTENER_H_
#define SERVING_NET_LISTENER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serving/net/descriptor.h"
#include "serving/net/event_loop.h"
#include "serving/net/io_threads.h"

namespace tfipu::serving::net {

// Listens on TCP; `port` 0 is one that the system chooses. Returns a descriptor and the port, or -1 and
// `*error` says why. "::" takes IPv4 as well. SO_REUSEPORT is not set: a port that another server has is an
// error.
int ListenTcp(const std::string& host, int port, int* bound, std::string* error);
// Listens on a Unix-domain socket. One that a dead server left there is replaced.
int ListenUnix(const std::string& path, std::string* error);

// Accepts connections on the first loop of some threads and gives each to the loop that has the fewest of
// this listener's server. With SO_REUSEPORT the kernel would spread by hash, which is uneven when there are
// few. Open() and Close() are for other threads than the loops', or for before they have anything to do with
// it.
class Listener final : public SocketWatcher {
 public:
  // Runs on the chosen loop's thread. May throw std::bad_alloc.
  using Adopt = std::function<void(std::size_t loop, Descriptor fd)>;
  // Asked for each connection, on the first loop's thread: whether it may come in. Who says no is told with a
  // closed connection.
  using Admit = std::function<bool()>;

  // Owns `fd`. `loads` has the number of connections of each loop; it belongs to the server.
  Listener(IoThreads* threads, int fd, std::vector<std::atomic<int>>* loads, Admit admit, Adopt adopt);
  ~Listener() override;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void Open();
  // Who is already in the listen queue is still accepted; then the port is closed. When it returns, every
  // connection has been adopted.
  void Close();

  void OnSocket(std::uint32_t events) override;

 private:
  void AcceptAll();
  // False when the system has no room; it is tried again a little later.
  void Pause();
  void Give(Descriptor fd);

  IoThreads* const threads_;
  EventLoop* const loop_;
  int fd_;
  std::vector<std::atomic<int>>* const loads_;
  const Admit admit_;
  const Adopt adopt_;
  bool watched_ = false;
  bool closed_ = false;
  bool paused_ = false;
  EventLoop::Timers::iterator retry_;
};

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_LISTENER_H_
