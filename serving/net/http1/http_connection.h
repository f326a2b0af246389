// One client of the HTTP server.
#ifndef SERVING_NET_HTTP1_HTTP_CONNECTION_H_
#define SERVING_NET_HTTP1_HTTP_CONNECTION_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "serving/net/buffer.h"
#include "serving/net/deflate.h"
#include "serving/net/event_loop.h"
#include "serving/net/http1/http_exchange.h"
#include "serving/net/http1/http_request_parser.h"
#include "serving/net/memory_budget.h"
#include "serving/net/socket.h"
#include "serving/net/workers.h"

namespace tfipu::serving::net::http1 {

class HttpClients;

// A socket on its loop, and the exchange that is in flight on it. All of it but Respond(), Hold(),
// cancelled() and DoPart() belongs to its loop's thread. While a worker or the handler has the request, it
// outlives its socket; then it is forgotten by its HttpClients, and deleted by the loop.
class HttpConnection final : public HttpExchange, public SocketWatcher, public Mail, public Work {
 public:
  HttpConnection(HttpClients* clients, Descriptor fd, std::unique_ptr<TlsSession> tls);

  // HttpExchange
  std::string_view method() const override { return head_.method(); }
  std::string_view target() const override { return head_.target(); }
  std::string_view header(std::string_view name) const override { return head_.field(name); }
  std::string_view body() const override { return body_; }
  void ReleaseBody() override;
  bool AtEndOfRound(std::function<void()> callback) override;
  bool Hold(std::size_t bytes) override;
  bool cancelled() const override { return gone_.load(std::memory_order_relaxed); }
  void Respond(int status, HttpHeaders headers, std::string body) override;

  // The socket is watched from now on.
  void Begin();
  void OnSocket(std::uint32_t events) override;
  // The handler has responded in this round, outside of its call.
  void OnFlush() override;
  // A worker is done, or the handler has responded on another thread.
  void OnMail() override;
  // A worker's part of what takes long.
  bool DoPart() override;
  // Something took too long.
  void OnDeadline();
  // The server shuts down.
  void OnDrain();
  // Closes, whatever it is about, unless a handler or a worker has it.
  void Abandon();
  // Between requests with nothing to do: gives back its memory.
  void Trim();

  EventLoop::TimePoint deadline() const { return deadline_; }

  std::size_t index = 0;  // in the list of its HttpClients
  bool refused = false;   // over the limit

 private:
  enum class State {
    kIdle,       // nothing of the next request has come
    kHeader,     // its header is coming
    kBody,       // its body is coming, into body_memory_
    kChunks,     // its body is coming in chunks, into body_memory_
    kInflating,  // a worker decompresses its body
    kHandling,   // the handler has it
    kWriting,    // the answer goes out
    kLingering,  // the answer is out; what still comes is thrown away until the client has seen the end
    kClosed,
  };

  // What a step left behind.
  enum class Next { kGoOn, kWait };

  // Who else has the request; what it is made of stays as it is meanwhile, also behind an answer that says
  // that it takes too long, and behind the closed socket.
  enum class Holder { kNobody, kWorker, kHandler };

  struct Answer {
    int status = 0;
    HttpHeaders headers;
    std::string body;
    Buffer packed;  // the body compressed, if it has a size
    std::size_t counted = 0;
  };

  // Goes on as far as it can without waiting.
  void Advance();
  // Calls it, and closes the connection when it throws.
  template <typename Function>
  void Guarded(Function function);
  Next Step();
  Next Read();
  Next ParseHeader();
  Next StartBody();
  Next ReadBody();
  Next ParseChunks();
  Next Decode();
  Next OnInflated(Inflater::Result result);
  Next Handle();
  Next Write();
  Next AfterAnswer();
  Next Linger();
  Next Fail(int status, std::string_view message);
  Next FailForMemory();
  void BuildAnswer(const Answer& answer, bool keep_alive);
  void BuildError(int status, std::string_view message);
  // Compresses the answer and counts it. On any thread.
  void PackAnswer();
  void CountAnswer();
  void DeliverAnswer();
  void ReleaseRequest();
  bool Reserve();
  void Consume(std::size_t size) {
    begin_ += size;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  std::size_t buffered() const { return end_ - begin_; }
  std::size_t answer_size() const { return head_only_ ? 0 : answer_body().size(); }
  std::string_view answer_body() const {
    return response_.packed.empty() ? std::string_view(response_.body) : response_.packed.view();
  }
  void Close();
  void SetDeadline(std::chrono::milliseconds after);

  HttpClients* const clients_;
  EventLoop* const loop_;
  MemoryAccount account_;
  Socket socket_;
  State state_ = State::kIdle;
  EventLoop::TimePoint deadline_ = INT64_MAX;
  int answered_in_turn_ = 0;
  std::atomic<bool> gone_{false};

  // What was read and not yet used is in buffer_[begin_, end_).
  Buffer buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;

  // The request.
  std::optional<HttpRequestParser> parser_;
  HttpRequestHead head_;
  bool request_whole_ = false;  // the handler had it
  bool keep_alive_ = true;
  bool accepts_gzip_ = false;
  bool head_only_ = false;
  std::string_view body_;
  std::size_t in_buffer_ = 0;  // bytes of buffer_ that the body takes, consumed when it is answered
  Buffer body_memory_;
  std::size_t body_size_ = 0;
  Buffer inflated_;
  std::optional<Inflater> inflater_;
  Inflater::Result inflate_result_ = Inflater::Result::kMore;  // the worker's
  std::size_t on_hold_ = 0;                                    // bytes of Hold()

  Holder holder_ = Holder::kNobody;
  bool in_handler_ = false;
  bool responded_ = false;  // response_ is complete
  Answer handler_answer_;   // written by the thread that responds

  // The answer that goes out.
  Answer response_;
  std::string answer_head_;
  std::size_t written_ = 0;
  bool close_after_ = false;
};

}  // namespace tfipu::serving::net::http1

#endif  // SERVING_NET_HTTP1_HTTP_CONNECTION_H_
