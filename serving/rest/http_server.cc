#include "serving/rest/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "serving/rest/gzip.h"
#include "serving/rest/http_request_parser.h"

namespace tfipu::serving {
namespace {

using Clock = std::chrono::steady_clock;
using Headers = std::vector<std::pair<std::string, std::string>>;

constexpr std::size_t kReadSize = 16 << 10;      // what one read asks for at least
constexpr int kRequestsInARow = 32;              // of one connection, before others have their turn
constexpr int kMaxRefusing = 256;                // connections over the limit that are still told so
constexpr std::chrono::milliseconds kLinger{2000};
constexpr std::chrono::milliseconds kLongestTick{500};

absl::string_view Reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc;
  gmtime_r(&now, &utc);
  char text[64];
  const std::size_t size = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return std::string(text, size);
}

absl::Status SystemError(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::generic_category().message(errno)));
}

class Loop;

// One client. All of it but Respond() and cancelled() belongs to its loop's thread.
class Connection final : public HttpExchange {
 public:
  Connection(Loop* loop, int fd) : loop_(loop), fd_(fd) {}
  ~Connection() { CloseSocket(); }

  // HttpExchange
  std::string_view method() const override { return head_.method(); }
  std::string_view target() const override { return head_.target(); }
  std::string_view header(std::string_view name) const override { return head_.field(name); }
  std::string_view body() const override { return body_; }
  bool cancelled() const override { return gone_.load(std::memory_order_relaxed); }
  void Respond(int status, Headers headers, std::string body) override;

  // The socket is watched from now on.
  void Begin();
  // Something happened to the socket.
  void OnEvents(std::uint32_t events);
  // An answer that another thread gave.
  void OnResponded() {
    responded_ = true;
    Advance();
  }
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
  Clock::time_point deadline() const { return deadline_; }

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
  void BuildAnswer(int status, const Headers& headers, std::string body, bool keep_alive);
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

  Loop* const loop_;
  int fd_;
  State state_ = State::kIdle;
  Clock::time_point deadline_ = Clock::time_point::max();
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
  std::size_t body_size_ = 0;
  std::size_t body_read_ = 0;
  std::string chunked_;
  std::string decompressed_;

  // The answer.
  bool in_handler_ = false;
  bool responded_ = false;
  int status_ = 0;
  Headers headers_;
  std::string answer_body_;
  std::string answer_head_;
  std::size_t written_ = 0;
  bool close_after_ = false;
};

// What the loops share.
struct Shared {
  HttpServerOptions options;
  HttpHandler handler;
  std::vector<std::unique_ptr<Loop>> loops;  // the first one accepts
  std::atomic<int> connections{0};
  std::atomic<int> refusing{0};
};

// One IO thread and the connections that are its own.
class Loop {
 public:
  explicit Loop(Shared* server) : server_(server), options_(server->options) {}
  ~Loop() {
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
  void PostResponded(Connection* connection);
  void PostDrain();
  int load() const { return load_.load(std::memory_order_relaxed); }

  // From this loop's thread.
  bool InThread() const { return current_ == this; }
  const HttpServerOptions& options() const { return options_; }
  const HttpHandler& handler() const { return server_->handler; }
  Clock::time_point now() const { return now_; }
  bool draining() const { return draining_; }
  const std::string& date();
  void Requeue(Connection* connection) {
    if (!connection->queued) ready_.push_back(connection);
    connection->queued = true;
  }
  void Forget(Connection* connection);

 private:
  struct Message {
    enum class Kind { kAdopt, kRefuse, kResponded, kDrain } kind;
    int fd = -1;
    Connection* connection = nullptr;
  };

  void Post(Message message);
  void Run();
  void TakeMessages();
  void Accept();
  void Add(int fd, bool refuse);
  void Sweep();
  int WaitMilliseconds() const;

  static thread_local Loop* current_;

  Shared* const server_;
  const HttpServerOptions& options_;
  int epoll_ = -1;
  int wakeup_ = -1;
  int listener_ = -1;
  bool accept_paused_ = false;
  std::thread thread_;
  std::atomic<int> load_{0};

  std::mutex mutex_;
  std::vector<Message> messages_;

  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Connection>> dead_;  // closed, but events of this round may still name them
  std::deque<Connection*> ready_;
  std::vector<Message> taken_;
  std::chrono::milliseconds tick_ = kLongestTick;
  Clock::time_point now_ = Clock::now();
  Clock::time_point next_sweep_ = Clock::time_point::min();
  bool draining_ = false;
  Clock::time_point drain_deadline_ = Clock::time_point::max();
  std::string date_;
  Clock::time_point date_until_ = Clock::time_point::min();
};

thread_local Loop* Loop::current_ = nullptr;

// ---------------------------------------------------------------------------------------------------- Connection

void Connection::SetDeadline(std::chrono::milliseconds after) {
  deadline_ = after.count() > 0 ? loop_->now() + after : Clock::time_point::max();
}

void Connection::Begin() {
  SetDeadline(loop_->options().idle_timeout);
  Advance();
}

void Connection::OnEvents(std::uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & EPOLLOUT) != 0) writable_ = true;
  if ((events & EPOLLRDHUP) != 0) half_closed_ = true;
  if (state_ == State::kHandling) {
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) gone_.store(true, std::memory_order_relaxed);
    return;
  }
  Advance();
}

void Connection::Advance() {
  int requests = 0;
  Next next = Next::kGoOn;
  while (next == Next::kGoOn && state_ != State::kClosed) {
    switch (state_) {
      case State::kIdle:
        next = Read();
        if (next == Next::kGoOn && state_ == State::kIdle) {
          state_ = State::kHeader;
          SetDeadline(loop_->options().header_timeout);
        }
        break;
      case State::kHeader:
        next = ParseHeader();
        break;
      case State::kBody:
        next = ReadBody();
        break;
      case State::kChunks:
        next = ParseChunks();
        break;
      case State::kHandling:
        if (!responded_) return;
        BuildAnswer(status_, headers_, std::move(answer_body_), keep_alive_);
        state_ = State::kWriting;
        SetDeadline(loop_->options().stall_timeout);
        break;
      case State::kWriting:
        next = Write();
        if (next == Next::kGoOn && state_ != State::kClosed && ++requests == kRequestsInARow) {
          loop_->Requeue(this);
          return;
        }
        break;
      case State::kLingering:
        next = Linger();
        break;
      case State::kClosed:
        break;
    }
  }
}

long Connection::Receive(char* data, std::size_t size) {
  if (!readable_) return -1;
  long got;
  do {
    got = recv(fd_, data, size, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    readable_ = false;
    return -1;
  }
  if (got <= 0) return 0;
  // A short read has emptied the socket, unless the end of the stream is behind it, for which no further event comes.
  if (static_cast<std::size_t>(got) < size) readable_ = half_closed_;
  return got;
}

bool Connection::Reserve() {
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, buffered());
    end_ -= begin_;
    begin_ = 0;
  }
  const std::size_t limit = std::max(kReadSize, loop_->options().max_header_bytes + 1);
  if (capacity_ - end_ >= kReadSize / 4 && capacity_ > 0) return true;
  if (capacity_ >= limit) return end_ < capacity_;
  const std::size_t capacity = std::min(limit, std::max(kReadSize, capacity_ * 2));
  std::unique_ptr<char[]> grown(new (std::nothrow) char[capacity]);
  if (grown == nullptr) return false;
  if (end_ > 0) std::memcpy(grown.get(), buffer_.get(), end_);
  buffer_ = std::move(grown);
  capacity_ = capacity;
  return true;
}

Connection::Next Connection::Read() {
  if (!readable_) return Next::kWait;
  if (!Reserve()) return Fail(431, "The request's header is too large");
  const long got = Receive(buffer_.get() + end_, capacity_ - end_);
  if (got < 0) return Next::kWait;
  if (got == 0) {
    Close();
    return Next::kGoOn;
  }
  end_ += static_cast<std::size_t>(got);
  return Next::kGoOn;
}

Connection::Next Connection::ParseHeader() {
  namespace http = boost::beast::http;
  if (!parser_) {
    head_.Clear();
    chunked_.clear();
    body_ = {};
    in_buffer_ = 0;
    parser_.emplace(&head_, &chunked_);
    parser_->header_limit(static_cast<std::uint32_t>(std::min<std::size_t>(loop_->options().max_header_bytes, 1 << 30)));
    parser_->body_limit(static_cast<std::uint64_t>(loop_->options().max_body_bytes));
    // Empty lines before a request are ignored, as RFC 9112 asks.
    while (buffered() >= 2 && std::memcmp(buffer_.get() + begin_, "\r\n", 2) == 0) Consume(2);
    if (buffered() == 1 && buffer_[begin_] == '\r') {
      parser_.reset();
      return Read();
    }
    if (buffered() == 0) {
      parser_.reset();
      state_ = State::kIdle;
      SetDeadline(loop_->options().idle_timeout);
      return Next::kGoOn;
    }
  }
  boost::beast::error_code error;
  Consume(parser_->put(boost::asio::const_buffer(buffer_.get() + begin_, buffered()), error));
  if (error == http::error::need_more) return Read();
  if (error == http::error::header_limit) return Fail(431, "The request's header is too large");
  if (error == http::error::body_limit) return Fail(413, "The request's body is too large");
  if (error == http::error::bad_version) return Fail(505, "Expected HTTP/1.0 or HTTP/1.1");
  if (error) return Fail(400, absl::StrCat("Malformed HTTP request: ", error.message()));
  if (!parser_->is_header_done()) return Next::kGoOn;
  return StartBody();
}

Connection::Next Connection::StartBody() {
  keep_alive_ = parser_->keep_alive();
  if (parser_->foreign_transfer_encoding()) return Fail(501, "Transfer-Encoding must be chunked");
  accepts_gzip_ = HasToken(head_.field("Accept-Encoding"), "gzip");
  const bool chunked = parser_->chunked();
  const std::size_t size = chunked ? 0 : static_cast<std::size_t>(parser_->content_length().value_or(0));
  const std::string_view expect = head_.field("Expect");
  if (!expect.empty() && head_.version() >= 11) {
    if (!EqualsIgnoringCase(expect, "100-continue")) return Fail(417, "Expect must be 100-continue");
    if (chunked || buffered() < size) {
      constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      if (send(fd_, kContinue.data(), kContinue.size(), MSG_NOSIGNAL) != static_cast<long>(kContinue.size())) {
        Close();
        return Next::kGoOn;
      }
    }
  }
  SetDeadline(loop_->options().stall_timeout);
  if (chunked) {
    state_ = State::kChunks;
    return Next::kGoOn;
  }
  if (buffered() >= size) {
    body_ = std::string_view(buffer_.get() + begin_, size);
    in_buffer_ = size;
    return Handle();
  }
  body_memory_.reset(new (std::nothrow) char[size]);
  if (body_memory_ == nullptr) return Fail(503, "Out of memory for the request's body");
  body_size_ = size;
  body_read_ = buffered();
  std::memcpy(body_memory_.get(), buffer_.get() + begin_, body_read_);
  Consume(body_read_);
  state_ = State::kBody;
  return Next::kGoOn;
}

Connection::Next Connection::ReadBody() {
  while (body_read_ < body_size_) {
    const long got = Receive(body_memory_.get() + body_read_, body_size_ - body_read_);
    if (got < 0) return Next::kWait;
    if (got == 0) {
      Close();
      return Next::kGoOn;
    }
    body_read_ += static_cast<std::size_t>(got);
    SetDeadline(loop_->options().stall_timeout);
  }
  body_ = std::string_view(body_memory_.get(), body_size_);
  return Handle();
}

Connection::Next Connection::ParseChunks() {
  namespace http = boost::beast::http;
  boost::beast::error_code error = http::error::need_more;
  if (buffered() > 0) {
    const std::size_t used = parser_->put(boost::asio::const_buffer(buffer_.get() + begin_, buffered()), error);
    Consume(used);
    if (parser_->is_done()) {
      body_ = chunked_;
      return Handle();
    }
    if (!error && (used > 0 || buffered() > 0)) return Next::kGoOn;
    if (!error) error = http::error::need_more;
  }
  if (error == http::error::body_limit) return Fail(413, "The request's body is too large");
  if (error == boost::system::errc::not_enough_memory) return Fail(503, "Out of memory for the request's body");
  if (error != http::error::need_more) return Fail(400, absl::StrCat("Malformed chunk: ", error.message()));
  const std::size_t before = buffered();
  const Next next = Read();
  if (buffered() > before) SetDeadline(loop_->options().stall_timeout);
  return next;
}

Connection::Next Connection::Handle() {
  const std::string_view encoding = head_.field("Content-Encoding");
  if (!encoding.empty() && !EqualsIgnoringCase(encoding, "identity")) {
    if (!EqualsIgnoringCase(encoding, "gzip") && !EqualsIgnoringCase(encoding, "x-gzip") &&
        !EqualsIgnoringCase(encoding, "deflate")) {
      return Fail(415, "Content-Encoding must be gzip, deflate or identity");
    }
    switch (Gunzip(body_, loop_->options().max_body_bytes, &decompressed_)) {
      case GunzipResult::kOk:
        break;
      case GunzipResult::kTooLarge:
        return Fail(413, "The request's decompressed body is too large");
      case GunzipResult::kCorrupt:
        return Fail(400, "The request's compressed body is corrupt");
      case GunzipResult::kNoMemory:
        return Fail(503, "Out of memory for the request's body");
    }
    body_ = decompressed_;
  }
  state_ = State::kHandling;
  request_whole_ = true;
  deadline_ = Clock::time_point::max();
  responded_ = false;
  in_handler_ = true;
  loop_->handler()(this);
  in_handler_ = false;
  return Next::kGoOn;
}

void Connection::Respond(int status, Headers headers, std::string body) {
  status_ = status;
  headers_ = std::move(headers);
  if (accepts_gzip_ && body.size() >= loop_->options().min_gzip_bytes) {
    std::string compressed;
    if (Gzip(body, &compressed) && compressed.size() < body.size()) {
      body = std::move(compressed);
      headers_.emplace_back("Content-Encoding", "gzip");
      headers_.emplace_back("Vary", "Accept-Encoding");
    }
  }
  answer_body_ = std::move(body);
  if (loop_->InThread() && in_handler_) {
    responded_ = true;
  } else {
    loop_->PostResponded(this);
  }
}

void Connection::BuildAnswer(int status, const Headers& headers, std::string body, bool keep_alive) {
  close_after_ = !keep_alive || loop_->draining();
  answer_head_.clear();
  absl::StrAppend(&answer_head_, "HTTP/1.1 ", status, " ", Reason(status), "\r\n");
  for (const auto& [name, value] : headers) absl::StrAppend(&answer_head_, name, ": ", value, "\r\n");
  absl::StrAppend(&answer_head_, "Date: ", loop_->date(), "\r\nContent-Length: ", body.size(), "\r\n");
  if (close_after_) {
    answer_head_ += "Connection: close\r\n";
  } else if (head_.version() < 11) {
    answer_head_ += "Connection: keep-alive\r\n";
  }
  answer_head_ += "\r\n";
  answer_body_ = std::move(body);
  if (head_.method() == "HEAD") answer_body_.clear();
  written_ = 0;
}

Connection::Next Connection::Fail(int status, absl::string_view message) {
  request_whole_ = false;
  // The messages are ours and need no escapes.
  BuildAnswer(status, {{"Content-Type", "application/json"}}, absl::StrCat("{\"error\": \"", message, "\"}"), false);
  state_ = State::kWriting;
  SetDeadline(loop_->options().stall_timeout);
  return Next::kGoOn;
}

Connection::Next Connection::Write() {
  const std::size_t head_size = answer_head_.size();
  const std::size_t total = head_size + answer_body_.size();
  while (written_ < total) {
    if (!writable_) return Next::kWait;
    iovec parts[2];
    int count = 0;
    if (written_ < head_size) parts[count++] = {answer_head_.data() + written_, head_size - written_};
    const std::size_t body_written = written_ < head_size ? 0 : written_ - head_size;
    if (body_written < answer_body_.size()) {
      parts[count++] = {answer_body_.data() + body_written, answer_body_.size() - body_written};
    }
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = count;
    const long sent = sendmsg(fd_, &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        writable_ = false;
        return Next::kWait;
      }
      Close();
      return Next::kGoOn;
    }
    written_ += static_cast<std::size_t>(sent);
    SetDeadline(loop_->options().stall_timeout);
  }
  return AfterAnswer();
}

Connection::Next Connection::AfterAnswer() {
  std::string().swap(answer_body_);
  headers_.clear();
  body_memory_.reset();
  body_ = {};
  if (chunked_.capacity() > kReadSize) std::string().swap(chunked_);
  if (decompressed_.capacity() > 0) std::string().swap(decompressed_);
  Consume(in_buffer_);
  in_buffer_ = 0;
  parser_.reset();
  if (close_after_) {
    // Closing at once, with something unread, would make the system reset the connection, and the client might never
    // see the answer.
    char next;
    const bool unread = !request_whole_ || buffered() > 0 || (readable_ && recv(fd_, &next, 1, MSG_PEEK) > 0);
    if (!unread) {
      Close();
      return Next::kGoOn;
    }
    shutdown(fd_, SHUT_WR);
    state_ = State::kLingering;
    SetDeadline(kLinger);
    begin_ = end_ = 0;
    return Next::kGoOn;
  }
  if (buffered() > 0) {
    state_ = State::kHeader;
    SetDeadline(loop_->options().header_timeout);
  } else {
    state_ = State::kIdle;
    SetDeadline(loop_->options().idle_timeout);
  }
  return Next::kGoOn;
}

Connection::Next Connection::Linger() {
  char waste[4096];
  for (int i = 0; i < 64; ++i) {
    const long got = Receive(waste, sizeof(waste));
    if (got < 0) return Next::kWait;
    if (got == 0) {
      Close();
      return Next::kGoOn;
    }
  }
  loop_->Requeue(this);
  return Next::kWait;
}

void Connection::Refuse() {
  Fail(503, "Too many connections");
  Advance();
}

void Connection::OnDeadline() {
  deadline_ = Clock::time_point::max();
  if (state_ == State::kHeader) {
    Fail(408, "The request's header took too long");
    Advance();
  } else if (state_ == State::kBody || state_ == State::kChunks) {
    Fail(408, "The request's body took too long");
    Advance();
  } else {
    Abandon();
  }
}

void Connection::OnDrain() {
  if (state_ != State::kIdle) return;
  // What has arrived in the meantime is still answered.
  Advance();
  if (state_ == State::kIdle) Close();
}

void Connection::Abandon() {
  if (state_ == State::kHandling) {
    gone_.store(true, std::memory_order_relaxed);
  } else if (state_ != State::kClosed) {
    Close();
  }
}

void Connection::Trim() {
  if (state_ != State::kIdle || capacity_ == 0 || buffered() > 0) return;
  buffer_.reset();
  capacity_ = 0;
}

void Connection::Close() {
  CloseSocket();
  state_ = State::kClosed;
  gone_.store(true, std::memory_order_relaxed);
  loop_->Forget(this);
}

// ---------------------------------------------------------------------------------------------------- Loop

absl::Status Loop::Open() {
  for (const std::chrono::milliseconds timeout :
       {options_.header_timeout, options_.stall_timeout, options_.idle_timeout, options_.drain_timeout}) {
    if (timeout.count() > 0) tick_ = std::min(tick_, std::max(timeout / 4, std::chrono::milliseconds(5)));
  }
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  wakeup_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_ < 0 || wakeup_ < 0) return SystemError("Cannot make an event loop");
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.ptr = nullptr;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, wakeup_, &event) != 0) return SystemError("Cannot make an event loop");
  return absl::OkStatus();
}

absl::Status Loop::Listen(int listener) {
  listener_ = listener;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = this;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event) != 0) return SystemError("Cannot listen");
  return absl::OkStatus();
}

void Loop::Post(Message message) {
  bool first;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    first = messages_.empty();
    messages_.push_back(message);
  }
  if (first) {
    const std::uint64_t one = 1;
    // A full counter wakes the loop just as well.
    if (write(wakeup_, &one, sizeof(one)) < 0) return;
  }
}

void Loop::Adopt(int fd, bool refuse) {
  load_.fetch_add(1, std::memory_order_relaxed);
  if (InThread()) return Add(fd, refuse);
  Post({refuse ? Message::Kind::kRefuse : Message::Kind::kAdopt, fd, nullptr});
}

void Loop::PostResponded(Connection* connection) { Post({Message::Kind::kResponded, -1, connection}); }

void Loop::PostDrain() { Post({Message::Kind::kDrain, -1, nullptr}); }

const std::string& Loop::date() {
  if (now_ >= date_until_) {
    date_ = HttpDate();
    date_until_ = now_ + std::chrono::milliseconds(500);
  }
  return date_;
}

void Loop::Add(int fd, bool refuse) {
  auto connection = std::make_unique<Connection>(this, fd);
  Connection* const added = connection.get();
  added->index = connections_.size();
  added->refused = refuse;
  connections_.push_back(std::move(connection));
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = static_cast<HttpExchange*>(added);
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
    added->Abandon();
    return;
  }
  if (refuse) {
    added->Refuse();
    return;
  }
  added->Begin();
  if (draining_) added->OnDrain();
}

void Loop::Forget(Connection* connection) {
  if (connection->queued) ready_.erase(std::find(ready_.begin(), ready_.end(), connection));
  const std::size_t index = connection->index;
  dead_.push_back(std::move(connections_[index]));
  if (index + 1 != connections_.size()) {
    connections_[index] = std::move(connections_.back());
    connections_[index]->index = index;
  }
  connections_.pop_back();
  load_.fetch_sub(1, std::memory_order_relaxed);
  (connection->refused ? server_->refusing : server_->connections).fetch_sub(1, std::memory_order_relaxed);
}

void Loop::Accept() {
  while (true) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        // Try again at the next sweep, rather than at once and for ever.
        epoll_ctl(epoll_, EPOLL_CTL_DEL, listener_, nullptr);
        accept_paused_ = true;
      }
      return;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    bool refuse = false;
    if (server_->connections.fetch_add(1, std::memory_order_relaxed) >= options_.max_connections) {
      server_->connections.fetch_sub(1, std::memory_order_relaxed);
      if (server_->refusing.fetch_add(1, std::memory_order_relaxed) >= kMaxRefusing) {
        server_->refusing.fetch_sub(1, std::memory_order_relaxed);
        close(fd);
        continue;
      }
      refuse = true;
    }
    Loop* least = this;
    for (const std::unique_ptr<Loop>& loop : server_->loops) {
      if (loop->load() < least->load()) least = loop.get();
    }
    least->Adopt(fd, refuse);
  }
}

void Loop::TakeMessages() {
  std::uint64_t count;
  if (read(wakeup_, &count, sizeof(count)) < 0) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    taken_.swap(messages_);
  }
  for (const Message& message : taken_) {
    switch (message.kind) {
      case Message::Kind::kAdopt:
        Add(message.fd, false);
        break;
      case Message::Kind::kRefuse:
        Add(message.fd, true);
        break;
      case Message::Kind::kResponded:
        message.connection->OnResponded();
        break;
      case Message::Kind::kDrain:
        if (draining_) break;
        if (listener_ >= 0) {
          // Who has connected is served. The other loops hear of the end after the last connection they are handed.
          Accept();
          if (!accept_paused_) epoll_ctl(epoll_, EPOLL_CTL_DEL, listener_, nullptr);
          listener_ = -1;
          for (std::size_t i = 1; i < server_->loops.size(); ++i) server_->loops[i]->PostDrain();
        }
        draining_ = true;
        drain_deadline_ = now_ + options_.drain_timeout;
        // From the end, as a closed connection leaves the list.
        for (std::size_t i = connections_.size(); i-- > 0;) connections_[i]->OnDrain();
        break;
    }
  }
  taken_.clear();
}

void Loop::Sweep() {
  next_sweep_ = now_ + tick_;
  if (accept_paused_ && listener_ >= 0) {
    accept_paused_ = false;
    if (!Listen(listener_).ok()) accept_paused_ = true;
  }
  for (std::size_t i = connections_.size(); i-- > 0;) {
    Connection* const connection = connections_[i].get();
    if (now_ >= drain_deadline_) {
      connection->Abandon();
    } else if (now_ >= connection->deadline()) {
      connection->OnDeadline();
    } else {
      connection->Trim();
    }
  }
}

int Loop::WaitMilliseconds() const {
  if (!ready_.empty()) return 0;
  if (connections_.empty() && !accept_paused_) return -1;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next_sweep_ - now_).count();
  return static_cast<int>(std::clamp<long long>(left + 1, 0, 1000));
}

void Loop::Run() {
  current_ = this;
  std::vector<epoll_event> events(256);
  while (!draining_ || !connections_.empty()) {
    const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), WaitMilliseconds());
    now_ = Clock::now();
    bool messages = false;
    for (int i = 0; i < count; ++i) {
      void* const source = events[i].data.ptr;
      if (source == nullptr) {
        messages = true;
      } else if (source == this) {
        if (listener_ >= 0) Accept();
      } else {
        auto* const connection = static_cast<Connection*>(static_cast<HttpExchange*>(source));
        if (!connection->closed()) connection->OnEvents(events[i].events);
      }
    }
    if (messages) TakeMessages();
    for (std::size_t turns = ready_.size(); turns > 0 && !ready_.empty(); --turns) {
      Connection* const connection = ready_.front();
      ready_.pop_front();
      connection->queued = false;
      connection->Advance();
    }
    if (now_ >= next_sweep_) Sweep();
    dead_.clear();
  }
  current_ = nullptr;
}

absl::Status OpenListener(const HttpServerOptions& options, int* listener, int* port) {
  sockaddr_storage address{};
  socklen_t size;
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&address);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address);
  if (options.port < 0 || options.port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("The HTTP port is ", options.port, ", expected 0 to 65535"));
  }
  if (inet_pton(AF_INET, options.address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<std::uint16_t>(options.port));
    size = sizeof(*v4);
  } else if (inet_pton(AF_INET6, options.address.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<std::uint16_t>(options.port));
    size = sizeof(*v6);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("The HTTP address is \"", options.address, "\", expected a numeric IPv4 or IPv6 address"));
  }
  const int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return SystemError("Cannot make a socket");
  *listener = fd;
  const int on = 1;
  const int off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, SOMAXCONN) != 0) {
    return SystemError(absl::StrCat("Cannot listen on HTTP port ", options.port, " of ", options.address));
  }
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return SystemError("Cannot tell the port");
  *port = ntohs(address.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
  return absl::OkStatus();
}

}  // namespace

// ---------------------------------------------------------------------------------------------------- HttpServer

class HttpServer::State {
 public:
  State(HttpServerOptions options, HttpHandler handler) {
    shared_.options = std::move(options);
    shared_.handler = std::move(handler);
  }
  ~State() { Shutdown(); }

  absl::Status Start() {
    if (absl::Status status = OpenListener(shared_.options, &listener_, &port_); !status.ok()) return status;
    const int threads =
        shared_.options.threads > 0 ? shared_.options.threads : std::max(1u, std::thread::hardware_concurrency());
    for (int i = 0; i < threads; ++i) {
      shared_.loops.push_back(std::make_unique<Loop>(&shared_));
      if (absl::Status status = shared_.loops.back()->Open(); !status.ok()) return status;
    }
    if (absl::Status status = shared_.loops[0]->Listen(listener_); !status.ok()) return status;
    for (const auto& loop : shared_.loops) loop->StartThread();
    return absl::OkStatus();
  }

  int port() const { return port_; }

  void Shutdown() {
    std::lock_guard<std::mutex> lock(shutdown_);
    if (!shared_.loops.empty()) shared_.loops[0]->PostDrain();
    for (const auto& loop : shared_.loops) loop->Join();
    shared_.loops.clear();
    if (listener_ >= 0) close(listener_);
    listener_ = -1;
  }

 private:
  Shared shared_;
  int listener_ = -1;
  int port_ = 0;
  std::mutex shutdown_;
};

HttpServer::HttpServer(HttpServerOptions options, HttpHandler handler)
    : state_(std::make_unique<State>(std::move(options), std::move(handler))) {}

HttpServer::~HttpServer() = default;

absl::Status HttpServer::Start() { return state_->Start(); }

int HttpServer::port() const { return state_->port(); }

void HttpServer::Shutdown() { state_->Shutdown(); }

}  // namespace tfipu::serving
