// One client of the HTTP server.
#ifndef SERVING_REST_HTTP_CONNECTION_H_
#define SERVING_REST_HTTP_CONNECTION_H_

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "serving/rest/http.h"
#include "serving/rest/http_request_parser.h"

namespace tfipu::serving {

using HttpClock = std::chrono::steady_clock;
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

class HttpLoop;

// One client. All of it but Respond() and cancelled() belongs to its loop's thread.
class HttpConnection final : public HttpExchange {
 public:
  HttpConnection(HttpLoop* loop, int fd) : loop_(loop), fd_(fd) {}
  ~HttpConnection() { CloseSocket(); }

  // HttpExchange
  std::string_view method() const override { return head_.method(); }
  std::string_view target() const override { return head_.target(); }
  std::string_view header(std::string_view name) const override { return head_.field(name); }
  std::string_view body() const override { return body_; }
  bool cancelled() const override { return gone_.load(std::memory_order_relaxed); }
  void Respond(int status, HttpHeaders headers, std::string body) override;

  // The socket is watched from now on.
  void Begin();
  // Something happened to the socket.
  void OnEvents(std::uint32_t events);
  // An answer that another thread gave.
  void OnResponded();
  // Goes on as far as it can without waiting.
  void Advance();
  // Says no to a connection over the limit.
  void Refuse();
  // Something took too long.
  void OnDeadline();
  // The server shuts down.
  void OnDrain();
  // Closes, whatever it is about, unless the handler has it.
  void Abandon();
  // Between requests with nothing to do: gives back its memory.
  void Trim();

  int fd() const { return fd_; }
  bool closed() const { return state_ == State::kClosed; }
  HttpClock::time_point deadline() const { return deadline_; }

  std::size_t index = 0;  // in the loop's list
  bool refused = false;   // over the limit
  bool queued = false;    // waits for its turn

 private:
  enum class State {
    kIdle,       // nothing of the next request has come
    kHeader,     // its header is coming
    kBody,       // its body is coming, into body_memory_
    kChunks,     // its body is coming in chunks, into chunked_
    kHandling,   // the handler has it
    kWriting,    // the answer goes out
    kLingering,  // the answer is out; what still comes is thrown away until the client has seen the end
    kClosed,
  };

  // What a step left behind.
  enum class Next { kGoOn, kWait };

  Next Read();
  Next ParseHeader();
  Next StartBody();
  Next ReadBody();
  Next ParseChunks();
  Next Handle();
  Next Write();
  Next AfterAnswer();
  Next Linger();
  Next Fail(int status, absl::string_view message);
  void BuildAnswer(int status, const HttpHeaders& headers, std::string body, bool keep_alive);
  void BuildError(int status, absl::string_view message);
  long Receive(char* data, std::size_t size);
  bool Reserve();
  void Consume(std::size_t size) {
    begin_ += size;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  std::size_t buffered() const { return end_ - begin_; }
  void Close();
  void CloseSocket() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  void SetDeadline(std::chrono::milliseconds after);

  HttpLoop* const loop_;
  int fd_;
  State state_ = State::kIdle;
  HttpClock::time_point deadline_ = HttpClock::time_point::max();
  bool readable_ = true;      // reading may give something
  bool writable_ = true;      // writing may take something
  bool half_closed_ = false;  // the client sends no more
  std::atomic<bool> gone_{false};

  // What was read and not yet used is in buffer_[begin_, end_).
  std::unique_ptr<char[]> buffer_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;

  // The request.
  std::optional<HttpRequestParser> parser_;
  HttpRequestHead head_;
  bool request_whole_ = false;  // the handler had it
  bool keep_alive_ = true;
  bool accepts_gzip_ = false;
  std::string_view body_;
  std::size_t in_buffer_ = 0;  // bytes of buffer_ that the body takes, consumed when it is answered
  std::unique_ptr<char[]> body_memory_;
  std::size_t body_capacity_ = 0;
  std::size_t body_size_ = 0;
  std::size_t body_read_ = 0;
  std::string chunked_;
  std::string decompressed_;

  // The handler's part. It has the request, and what is above stays as it is, while `held_`; beyond
  // call_timeout it does so behind an answer that says so, and behind the closed socket.
  bool held_ = false;
  bool in_handler_ = false;
  bool responded_ = false;
  struct Response {
    int status = 0;
    HttpHeaders headers;
    std::string body;
  } response_;  // written by the thread that responds

  // The answer.
  std::string answer_body_;
  std::string answer_head_;
  std::size_t written_ = 0;
  bool close_after_ = false;
};

}  // namespace tfipu::serving

#endif  // SERVING_REST_HTTP_CONNECTION_H_
