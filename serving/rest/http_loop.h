// An IO thread of the HTTP server.
#ifndef SERVING_REST_HTTP_LOOP_H_
#define SERVING_REST_HTTP_LOOP_H_

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "serving/core/event_wait.h"
#include "serving/rest/http.h"
#include "serving/rest/http_connection.h"
#include "serving/rest/http_server.h"

namespace tfipu::serving {

class HttpLoop;

// What the loops share.
struct HttpShared {
  HttpServerOptions options;
  HttpHandler handler;
  std::vector<std::unique_ptr<HttpLoop>> loops;  // the first one accepts
  std::atomic<int> connections{0};
  std::atomic<int> refusing{0};
};

// One IO thread and the connections that are its own.
class HttpLoop {
 public:
  explicit HttpLoop(HttpShared* server)
      : server_(server), options_(server->options), wait_(server->options.spin) {}
  ~HttpLoop() {
    if (epoll_ >= 0) close(epoll_);
    if (wakeup_ >= 0) close(wakeup_);
  }

  absl::Status Open();
  absl::Status Listen(int listener);
  void StartThread() {
    thread_ = std::thread([this] { Run(); });
  }
  void Join() {
    if (thread_.joinable()) thread_.join();
  }

  // From any thread.
  void Adopt(int fd, bool refuse);
  void PostResponded(HttpConnection* connection);
  void PostDrain();
  int load() const { return load_.load(std::memory_order_relaxed); }

  // From this loop's thread.
  bool InThread() const { return current_ == this; }
  const HttpServerOptions& options() const { return options_; }
  const HttpHandler& handler() const { return server_->handler; }
  HttpClock::time_point now() const { return now_; }
  bool draining() const { return draining_; }
  const std::string& date();
  // Memory for a body of `*size` bytes; `*size` becomes what there is. Null when memory is short.
  std::unique_ptr<char[]> TakeBody(std::size_t* size);
  // Keeps it for the next one, unless it is large.
  void GiveBody(std::unique_ptr<char[]> body, std::size_t size);
  void Requeue(HttpConnection* connection) {
    if (!connection->queued) ready_.push_back(connection);
    connection->queued = true;
  }
  void Forget(HttpConnection* connection);

 private:
  struct Message {
    enum class Kind { kAdopt, kRefuse, kResponded, kDrain } kind;
    int fd = -1;
    HttpConnection* connection = nullptr;
  };

  void Post(Message message);
  void Run();
  void TakeMessages();
  void Accept();
  void Add(int fd, bool refuse);
  void Sweep();
  int WaitMilliseconds() const;

  static thread_local HttpLoop* current_;

  HttpShared* const server_;
  const HttpServerOptions& options_;
  EventWait wait_;
  int epoll_ = -1;
  int wakeup_ = -1;
  int listener_ = -1;
  bool accept_paused_ = false;
  std::thread thread_;
  std::atomic<int> load_{0};

  std::mutex mutex_;
  std::vector<Message> messages_;

  std::vector<std::unique_ptr<HttpConnection>> connections_;
  std::vector<std::unique_ptr<HttpConnection>> dead_;  // closed, but events of this round may still name them
  std::deque<HttpConnection*> ready_;
  std::vector<Message> taken_;
  std::chrono::milliseconds tick_{500};  // how often deadlines are looked at
  HttpClock::time_point now_ = HttpClock::now();
  HttpClock::time_point next_sweep_ = HttpClock::time_point::min();
  std::unique_ptr<char[]> spare_body_;
  std::size_t spare_body_size_ = 0;
  bool draining_ = false;
  HttpClock::time_point drain_deadline_ = HttpClock::time_point::max();
  std::string date_;
  HttpClock::time_point date_until_ = HttpClock::time_point::min();
};

}  // namespace tfipu::serving

#endif  // SERVING_REST_HTTP_LOOP_H_
