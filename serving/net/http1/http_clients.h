// The clients of an HTTP server that belong to one IO thread.
#ifndef SERVING_NET_HTTP1_HTTP_CLIENTS_H_
#define SERVING_NET_HTTP1_HTTP_CLIENTS_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "serving/net/event_loop.h"
#include "serving/net/http1/http_connection.h"
#include "serving/net/http1/http_server.h"

namespace tfipu::serving::net::http1 {

// What the clients of all threads share.
struct HttpShared {
  HttpServerOptions options;
  HttpHandler handler;
  std::unique_ptr<TlsContext> tls;  // null: plain text
  std::vector<std::atomic<int>> loads;
  std::atomic<int> connections{0};
  std::atomic<int> refusing{0};
  std::mutex mutex;
  std::condition_variable closed;  // a connection has gone while the server shuts down
};

// Everything belongs to the loop's thread; Stop() comes before the end.
class HttpClients {
 public:
  // While the server shuts down, a client that takes nothing for so long does not hold it up.
  static constexpr std::chrono::milliseconds kDrainStall{2000};
  // Of a body's memory that is kept for the next one.
  static constexpr std::size_t kLargestSpareBody = 4 << 20;

  HttpClients(HttpShared* server, EventLoop* loop, std::size_t index);
  HttpClients(const HttpClients&) = delete;
  HttpClients& operator=(const HttpClients&) = delete;

  // Begins to serve. Throws std::bad_alloc when memory is short.
  void Add(Descriptor fd, bool refuse);
  // No requests are begun any more.
  void Drain();
  void Stop();

  // For the connections.
  EventLoop* loop() const { return loop_; }
  const HttpServerOptions& options() const { return server_->options; }
  const HttpHandler& handler() const { return server_->handler; }
  bool draining() const { return draining_; }
  const std::string& date();
  // Memory that an earlier body had, if it is large enough, else none.
  Buffer TakeBody(std::size_t size);
  // Keeps it for the next one, unless it is large.
  void GiveBody(Buffer body);
  // A connection is closed and needed by nobody.
  void Forget(HttpConnection* connection);

 private:
  void Sweep();
  void ArmSweep();

  HttpShared* const server_;
  EventLoop* const loop_;
  const std::size_t index_;
  std::vector<HttpConnection*> connections_;
  EventLoop::TimePoint tick_ = 500000;  // how often deadlines are looked at
  std::optional<EventLoop::Timers::iterator> sweep_;
  Buffer spare_body_;
  bool draining_ = false;
  EventLoop::TimePoint drain_deadline_ = INT64_MAX;
  std::string date_;
  EventLoop::TimePoint date_until_ = 0;
};

}  // namespace tfipu::serving::net::http1

#endif  // SERVING_NET_HTTP1_HTTP_CLIENTS_H_
