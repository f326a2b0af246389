#include "serving/rest/http_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "absl/strings/str_cat.h"
#include "serving/rest/gzip.h"
#include "serving/rest/http_loop.h"

namespace tfipu::serving {
namespace {

constexpr std::size_t kReadSize = 16 << 10;  // what one read asks for at least
constexpr int kRequestsInARow = 32;          // of one connection, before others have their turn
constexpr std::chrono::milliseconds kLinger{2000};

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

}  // namespace

void HttpConnection::SetDeadline(std::chrono::milliseconds after) {
  deadline_ = after.count() > 0 ? loop_->now() + after : HttpClock::time_point::max();
}

void HttpConnection::Begin() {
  SetDeadline(loop_->options().idle_timeout);
  Advance();
}

void HttpConnection::OnEvents(std::uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & EPOLLOUT) != 0) writable_ = true;
  if ((events & EPOLLRDHUP) != 0) half_closed_ = true;
  if (state_ == State::kHandling) {
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) gone_.store(true, std::memory_order_relaxed);
    return;
  }
  Advance();
}

void HttpConnection::Advance() {
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
        held_ = false;
        BuildAnswer(response_.status, response_.headers, std::move(response_.body), keep_alive_);
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

long HttpConnection::Receive(char* data, std::size_t size) {
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
  // A short read has emptied the socket, unless the end of the stream is behind it, for which no further
  // event comes.
  if (static_cast<std::size_t>(got) < size) readable_ = half_closed_;
  return got;
}

bool HttpConnection::Reserve() {
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

HttpConnection::Next HttpConnection::Read() {
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

HttpConnection::Next HttpConnection::ParseHeader() {
  namespace http = boost::beast::http;
  if (!parser_) {
    head_.Clear();
    chunked_.clear();
    body_ = {};
    in_buffer_ = 0;
    parser_.emplace(&head_, &chunked_);
    parser_->header_limit(
        static_cast<std::uint32_t>(std::min<std::size_t>(loop_->options().max_header_bytes, 1 << 30)));
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

HttpConnection::Next HttpConnection::StartBody() {
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
      if (send(fd_, kContinue.data(), kContinue.size(), MSG_NOSIGNAL) !=
          static_cast<long>(kContinue.size())) {
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
  body_capacity_ = size;
  body_memory_ = loop_->TakeBody(&body_capacity_);
  if (body_memory_ == nullptr) return Fail(503, "Out of memory for the request's body");
  body_size_ = size;
  body_read_ = buffered();
  std::memcpy(body_memory_.get(), buffer_.get() + begin_, body_read_);
  Consume(body_read_);
  state_ = State::kBody;
  return Next::kGoOn;
}

HttpConnection::Next HttpConnection::ReadBody() {
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

HttpConnection::Next HttpConnection::ParseChunks() {
  namespace http = boost::beast::http;
  boost::beast::error_code error = http::error::need_more;
  if (buffered() > 0) {
    const std::size_t used =
        parser_->put(boost::asio::const_buffer(buffer_.get() + begin_, buffered()), error);
    Consume(used);
    if (parser_->is_done()) {
      body_ = chunked_;
      return Handle();
    }
    if (!error && (used > 0 || buffered() > 0)) return Next::kGoOn;
    if (!error) error = http::error::need_more;
  }
  if (error == http::error::body_limit) return Fail(413, "The request's body is too large");
  if (error == boost::system::errc::not_enough_memory)
    return Fail(503, "Out of memory for the request's body");
  if (error != http::error::need_more) return Fail(400, absl::StrCat("Malformed chunk: ", error.message()));
  const std::size_t before = buffered();
  const Next next = Read();
  if (buffered() > before) SetDeadline(loop_->options().stall_timeout);
  return next;
}

HttpConnection::Next HttpConnection::Handle() {
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
  SetDeadline(loop_->options().call_timeout);
  responded_ = false;
  held_ = true;
  in_handler_ = true;
  loop_->handler()(this);
  in_handler_ = false;
  return Next::kGoOn;
}

void HttpConnection::Respond(int status, HttpHeaders headers, std::string body) {
  response_.status = status;
  response_.headers = std::move(headers);
  if (accepts_gzip_ && body.size() >= loop_->options().min_gzip_bytes) {
    std::string compressed;
    if (Gzip(body, &compressed) && compressed.size() < body.size()) {
      body = std::move(compressed);
      response_.headers.emplace_back("Content-Encoding", "gzip");
      response_.headers.emplace_back("Vary", "Accept-Encoding");
    }
  }
  response_.body = std::move(body);
  if (loop_->InThread() && in_handler_) {
    responded_ = true;
  } else {
    loop_->PostResponded(this);
  }
}

void HttpConnection::BuildAnswer(int status, const HttpHeaders& headers, std::string body, bool keep_alive) {
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

void HttpConnection::OnResponded() {
  if (state_ == State::kHandling) {
    responded_ = true;
    Advance();
    return;
  }
  // The client has had its answer.
  held_ = false;
  if (state_ == State::kClosed) loop_->Forget(this);
}

HttpConnection::Next HttpConnection::Fail(int status, absl::string_view message) {
  request_whole_ = false;
  BuildError(status, message);
  return Next::kGoOn;
}

void HttpConnection::BuildError(int status, absl::string_view message) {
  // The messages are ours and need no escapes.
  BuildAnswer(status, {{"Content-Type", "application/json"}}, absl::StrCat("{\"error\": \"", message, "\"}"),
              false);
  state_ = State::kWriting;
  SetDeadline(loop_->options().stall_timeout);
}

HttpConnection::Next HttpConnection::Write() {
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

HttpConnection::Next HttpConnection::AfterAnswer() {
  std::string().swap(answer_body_);
  if (!held_) {
    response_.headers.clear();
    loop_->GiveBody(std::move(body_memory_), body_capacity_);
    body_ = {};
    if (chunked_.capacity() > kReadSize) std::string().swap(chunked_);
    if (decompressed_.capacity() > 0) std::string().swap(decompressed_);
    Consume(in_buffer_);
    in_buffer_ = 0;
    parser_.reset();
  }
  if (close_after_) {
    // Closing at once, with something unread, would make the system reset the connection, and the client
    // might never see the answer.
    char next;
    const bool unread = !request_whole_ || buffered() > 0 || (readable_ && recv(fd_, &next, 1, MSG_PEEK) > 0);
    if (!unread) {
      Close();
      return Next::kGoOn;
    }
    shutdown(fd_, SHUT_WR);
    state_ = State::kLingering;
    SetDeadline(kLinger);
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

HttpConnection::Next HttpConnection::Linger() {
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

void HttpConnection::Refuse() {
  Fail(503, "Too many connections");
  Advance();
}

void HttpConnection::OnDeadline() {
  deadline_ = HttpClock::time_point::max();
  if (state_ == State::kHeader) {
    Fail(408, "The request's header took too long");
    Advance();
  } else if (state_ == State::kBody || state_ == State::kChunks) {
    Fail(408, "The request's body took too long");
    Advance();
  } else if (state_ == State::kHandling) {
    gone_.store(true, std::memory_order_relaxed);
    BuildError(504, absl::StrCat("The call took longer than the server's limit of ",
                                 loop_->options().call_timeout.count(), " ms"));
    Advance();
  } else {
    Abandon();
  }
}

void HttpConnection::OnDrain() {
  if (state_ != State::kIdle) return;
  // What has arrived in the meantime is still answered.
  Advance();
  if (state_ == State::kIdle) Close();
}

void HttpConnection::Abandon() {
  if (state_ == State::kHandling) {
    gone_.store(true, std::memory_order_relaxed);
  } else if (state_ != State::kClosed) {
    Close();
  }
}

void HttpConnection::Trim() {
  if (state_ != State::kIdle || capacity_ == 0 || buffered() > 0) return;
  buffer_.reset();
  capacity_ = 0;
}

void HttpConnection::Close() {
  CloseSocket();
  state_ = State::kClosed;
  deadline_ = HttpClock::time_point::max();
  gone_.store(true, std::memory_order_relaxed);
  if (!held_) loop_->Forget(this);
}

}  // namespace tfipu::serving
