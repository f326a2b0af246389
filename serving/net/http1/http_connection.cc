#include "serving/net/http1/http_connection.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "serving/net/http1/http_clients.h"

namespace tfipu::serving::net::http1 {
namespace {

constexpr std::size_t kReadSize = 16 << 10;   // what one read asks for at least
constexpr std::size_t kTurnBytes = 1 << 20;   // of a body, before others have their turn
constexpr std::size_t kFirstBody = 1 << 20;   // of a body's memory, before it has come
constexpr std::size_t kWorkerStep = 1 << 20;  // of an inflation, before others have their turn

}  // namespace

HttpConnection::HttpConnection(HttpClients* clients, Descriptor fd, std::unique_ptr<TlsSession> tls)
    : clients_(clients),
      loop_(clients->loop()),
      account_(clients->options().budget, clients->options().max_connection_bytes),
      socket_(loop_, std::move(fd), std::move(tls)),
      buffer_(&account_),
      body_memory_(&account_),
      inflated_(&account_) {}

void HttpConnection::SetDeadline(std::chrono::milliseconds after) {
  deadline_ = after.count() > 0 ? loop_->round_start() + std::chrono::microseconds(after).count() : INT64_MAX;
}

template <typename Function>
void HttpConnection::Guarded(Function function) {
  try {
    function();
  } catch (const std::exception&) {
    if (state_ != State::kClosed) Close();
  }
}

void HttpConnection::Begin() {
  SetDeadline(socket_.established() ? clients_->options().idle_timeout : clients_->options().header_timeout);
  // Who is over the limit gets no handshake just to be told so.
  if (!socket_.Watch(this) || (refused && !socket_.established())) return Close();
  Guarded([this] {
    if (refused) Fail(503, "Too many connections");
    Advance();
  });
  if (clients_->draining()) OnDrain();
}

void HttpConnection::OnSocket(std::uint32_t events) {
  socket_.OnEvents(events);
  if (state_ == State::kHandling || state_ == State::kInflating) {
    if (socket_.half_closed()) gone_.store(true, std::memory_order_relaxed);
    return;
  }
  Guarded([this] { Advance(); });
}

void HttpConnection::OnFlush() {
  Guarded([this] { Advance(); });
}

void HttpConnection::Advance() {
  answered_in_turn_ = 0;
  while (state_ != State::kClosed && Step() == Next::kGoOn) {
  }
}

HttpConnection::Next HttpConnection::Step() {
  switch (state_) {
    case State::kIdle: {
      const Next next = Read();
      if (next == Next::kGoOn && state_ == State::kIdle) {
        state_ = State::kHeader;
        SetDeadline(clients_->options().header_timeout);
      }
      return next;
    }
    case State::kHeader:
      return ParseHeader();
    case State::kBody:
      return ReadBody();
    case State::kChunks:
      return ParseChunks();
    case State::kInflating:
      return Next::kWait;
    case State::kHandling:
      if (!responded_) return Next::kWait;
      holder_ = Holder::kNobody;
      response_ = std::move(handler_answer_);
      BuildAnswer(response_, keep_alive_);
      return Next::kGoOn;
    case State::kWriting:
      return Write();
    case State::kLingering:
      return Linger();
    case State::kClosed:
      break;
  }
  return Next::kWait;
}

bool HttpConnection::Reserve() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, buffered());
    end_ -= begin_;
    begin_ = 0;
  }
  const std::size_t limit = std::max(kReadSize, clients_->options().max_header_bytes + 1);
  const std::size_t capacity = buffer_.capacity();
  if (capacity - end_ >= kReadSize / 4 && capacity > 0) return true;
  if (capacity >= limit) return end_ < capacity;
  return buffer_.Reserve(std::min(limit, std::max(kReadSize, capacity * 2)));
}

HttpConnection::Next HttpConnection::Read() {
  if (!Reserve()) return Fail(431, "The request's header is too large");
  const long got = socket_.Receive(buffer_.data() + end_, buffer_.capacity() - end_);
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
    body_ = {};
    in_buffer_ = 0;
    head_only_ = false;
    parser_.emplace(&head_, &body_memory_, clients_->options().max_body_bytes);
    parser_->header_limit(
        static_cast<std::uint32_t>(std::min<std::size_t>(clients_->options().max_header_bytes, 1 << 30)));
    // Empty lines before a request are ignored, as RFC 9112 asks.
    while (buffered() >= 2 && std::memcmp(buffer_.data() + begin_, "\r\n", 2) == 0) Consume(2);
    if (buffered() == 1 && buffer_.data()[begin_] == '\r') {
      parser_.reset();
      return Read();
    }
    if (buffered() == 0) {
      parser_.reset();
      state_ = State::kIdle;
      SetDeadline(clients_->options().idle_timeout);
      return Next::kGoOn;
    }
  }
  boost::beast::error_code error;
  Consume(parser_->put(boost::asio::const_buffer(buffer_.data() + begin_, buffered()), error));
  if (error == http::error::need_more) return Read();
  if (error == http::error::header_limit) return Fail(431, "The request's header is too large");
  if (error == http::error::body_limit) return Fail(413, "The request's body is too large");
  if (error == http::error::bad_version) return Fail(505, "Expected HTTP/1.0 or HTTP/1.1");
  if (error) return Fail(400, "Malformed HTTP request: " + error.message());
  if (!parser_->is_header_done()) return Next::kGoOn;
  return StartBody();
}

HttpConnection::Next HttpConnection::StartBody() {
  keep_alive_ = parser_->keep_alive();
  head_only_ = head_.method() == "HEAD";
  const bool modern = head_.version() >= 11;
  if (parser_->hosts() > 1) return Fail(400, "The request has several Host fields, expected one");
  if (modern && parser_->hosts() == 0)
    return Fail(400, "The request has no Host field, which HTTP/1.1 demands");
  if (parser_->foreign_transfer_encoding()) return Fail(501, "Transfer-Encoding must be chunked");
  accepts_gzip_ = HasToken(head_.field("Accept-Encoding"), "gzip");
  const bool chunked = parser_->chunked();
  const std::size_t size = chunked ? 0 : static_cast<std::size_t>(parser_->content_length().value_or(0));
  const std::string_view expect = head_.field("Expect");
  if (!expect.empty() && modern) {
    if (!EqualsIgnoringCase(expect, "100-continue")) return Fail(417, "Expect must be 100-continue");
    if (chunked || buffered() < size) {
      constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      const iovec part = {const_cast<char*>(kContinue.data()), kContinue.size()};
      std::size_t sent = 0;
      if (!socket_.Send(&part, 1, &sent) || sent != kContinue.size()) {
        Close();
        return Next::kGoOn;
      }
    }
  }
  SetDeadline(clients_->options().stall_timeout);
  if (chunked) {
    state_ = State::kChunks;
    return Next::kGoOn;
  }
  if (buffered() >= size) {
    body_ = std::string_view(buffer_.data() + begin_, size);
    in_buffer_ = size;
    return Decode();
  }
  body_memory_ = clients_->TakeBody(size);
  body_memory_.CountBy(&account_);
  const std::size_t have = buffered();
  if (!body_memory_.Reserve(std::min(size, std::max(kFirstBody, have)))) return FailForMemory();
  body_size_ = size;
  std::memcpy(body_memory_.data(), buffer_.data() + begin_, have);
  body_memory_.set_size(have);
  Consume(have);
  state_ = State::kBody;
  return Next::kGoOn;
}

HttpConnection::Next HttpConnection::ReadBody() {
  for (std::size_t turn = 0; body_memory_.size() < body_size_;) {
    const std::size_t have = body_memory_.size();
    if (have == body_memory_.capacity() && !body_memory_.Grow(have + 1, body_size_)) return FailForMemory();
    const std::size_t room = std::min(body_memory_.capacity(), body_size_) - have;
    const long got = socket_.Receive(body_memory_.data() + have, std::min(room, kTurnBytes));
    if (got < 0) return Next::kWait;
    if (got == 0) {
      Close();
      return Next::kGoOn;
    }
    body_memory_.set_size(have + static_cast<std::size_t>(got));
    SetDeadline(clients_->options().stall_timeout);
    turn += static_cast<std::size_t>(got);
    if (turn >= kTurnBytes && body_memory_.size() < body_size_) {
      loop_->NextRound(this);
      return Next::kWait;
    }
  }
  body_ = body_memory_.view();
  return Decode();
}

HttpConnection::Next HttpConnection::ParseChunks() {
  namespace http = boost::beast::http;
  boost::beast::error_code error = http::error::need_more;
  if (buffered() > 0) {
    const std::size_t used =
        parser_->put(boost::asio::const_buffer(buffer_.data() + begin_, buffered()), error);
    Consume(used);
    if (parser_->is_done()) {
      body_ = body_memory_.view();
      return Decode();
    }
    if (!error && (used > 0 || buffered() > 0)) return Next::kGoOn;
    if (!error) error = http::error::need_more;
  }
  if (error == http::error::body_limit) return Fail(413, "The request's body is too large");
  if (error == boost::system::errc::not_enough_memory) return FailForMemory();
  if (error != http::error::need_more) return Fail(400, "Malformed chunk: " + error.message());
  const std::size_t before = buffered();
  const Next next = Read();
  if (buffered() > before) SetDeadline(clients_->options().stall_timeout);
  return next;
}

HttpConnection::Next HttpConnection::Decode() {
  const std::string_view encoding = head_.field("Content-Encoding");
  if (encoding.empty() || EqualsIgnoringCase(encoding, "identity")) return Handle();
  if (!EqualsIgnoringCase(encoding, "gzip") && !EqualsIgnoringCase(encoding, "x-gzip") &&
      !EqualsIgnoringCase(encoding, "deflate")) {
    return Fail(415, "Content-Encoding must be gzip, deflate or identity");
  }
  inflater_.emplace(DeflateFormat::kAny, body_, clients_->options().max_body_bytes, &inflated_);
  const Inflater::Result result = inflater_->Run(kSmallInflation);
  if (result != Inflater::Result::kMore) return OnInflated(result);
  state_ = State::kInflating;
  SetDeadline(clients_->options().call_timeout);
  holder_ = Holder::kWorker;
  if (clients_->options().threads->workers()->Do(this)) return Next::kWait;
  holder_ = Holder::kNobody;
  return FailForMemory();
}

bool HttpConnection::DoPart() {
  // A response waits to be compressed, or a body to be decompressed.
  if (holder_ == Holder::kHandler) {
    PackAnswer();
    CountAnswer();
    loop_->Post(static_cast<Mail*>(this));
    return false;
  }
  inflate_result_ = cancelled() ? Inflater::Result::kCorrupt : inflater_->Run(kWorkerStep);
  if (inflate_result_ == Inflater::Result::kMore) return true;
  loop_->Post(static_cast<Mail*>(this));
  return false;
}

HttpConnection::Next HttpConnection::OnInflated(Inflater::Result result) {
  inflater_.reset();
  switch (result) {
    case Inflater::Result::kDone:
      body_ = inflated_.view();
      return Handle();
    case Inflater::Result::kTooLarge:
      return Fail(413, "The request's decompressed body is too large");
    case Inflater::Result::kNoMemory:
      return FailForMemory();
    default:
      return Fail(400, "The request's compressed body is corrupt");
  }
}

HttpConnection::Next HttpConnection::Handle() {
  state_ = State::kHandling;
  request_whole_ = true;
  SetDeadline(clients_->options().call_timeout);
  responded_ = false;
  holder_ = Holder::kHandler;
  in_handler_ = true;
  try {
    clients_->handler()(this);
    in_handler_ = false;
  } catch (const std::exception&) {
    in_handler_ = false;
    if (!responded_) {
      holder_ = Holder::kNobody;
      return FailForMemory();
    }
  }
  return Next::kGoOn;
}

void HttpConnection::OnMail() {
  Guarded([this] {
    if (holder_ == Holder::kWorker && state_ == State::kInflating) {
      holder_ = Holder::kNobody;
      OnInflated(inflate_result_);
      return Advance();
    }
    if (state_ == State::kHandling) {
      responded_ = true;
      return Advance();
    }
    // The client has had its answer, or is gone.
    holder_ = Holder::kNobody;
    account_.Give(std::exchange(handler_answer_.counted, 0));
    handler_answer_ = Answer();
    if (state_ == State::kClosed) clients_->Forget(this);
  });
}

void HttpConnection::OnDeadline() {
  deadline_ = INT64_MAX;
  Guarded([this] {
    if (state_ == State::kHeader) {
      Fail(408, "The request's header took too long");
    } else if (state_ == State::kBody || state_ == State::kChunks) {
      Fail(408, "The request's body took too long");
    } else if (state_ == State::kHandling || state_ == State::kInflating) {
      gone_.store(true, std::memory_order_relaxed);
      BuildError(504, "The call took longer than the server's limit of " +
                          std::to_string(clients_->options().call_timeout.count()) + " ms");
    } else {
      return Abandon();
    }
    Advance();
  });
}

void HttpConnection::OnDrain() {
  if (state_ == State::kWriting) SetDeadline(HttpClients::kDrainStall);
  if (state_ != State::kIdle) return;
  // What has arrived in the meantime is still answered.
  Guarded([this] { Advance(); });
  if (state_ == State::kIdle) Close();
}

void HttpConnection::Abandon() {
  if (state_ == State::kHandling || state_ == State::kInflating) {
    gone_.store(true, std::memory_order_relaxed);
  } else if (state_ != State::kClosed) {
    Close();
  }
}

void HttpConnection::Trim() {
  if (state_ == State::kIdle && buffered() == 0) buffer_.Clear();
}

void HttpConnection::Close() {
  socket_.Close(this);
  state_ = State::kClosed;
  deadline_ = INT64_MAX;
  gone_.store(true, std::memory_order_relaxed);
  if (holder_ == Holder::kNobody) clients_->Forget(this);
}

}  // namespace tfipu::serving::net::http1
