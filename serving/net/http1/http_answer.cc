// The half of HttpConnection that answers.
#include <exception>
#include <utility>

#include "serving/base/memory_return.h"
#include "serving/net/http1/http_clients.h"
#include "serving/net/http1/http_connection.h"
#include "serving/net/http1/status_reason.h"

namespace tfipu::serving::net::http1 {
namespace {

constexpr int kRequestsInARow = 32;  // of one connection, before others have their turn
constexpr int kFast = 1;             // a higher level costs more time than it saves on the wire
constexpr std::size_t kLargeAnswer = 1 << 20;
constexpr std::chrono::milliseconds kLinger{2000};

}  // namespace

void HttpConnection::ReleaseBody() {
  body_ = {};
  inflated_.Clear();
  // What is kept for the next request stays.
  if (body_memory_.capacity() > HttpClients::kLargestSpareBody) body_memory_.Clear();
}

bool HttpConnection::AtEndOfRound(std::function<void()> callback) {
  if (EventLoop::Current() == nullptr) return false;
  EventLoop::Current()->AtEndOfRound(std::move(callback));
  return true;
}

bool HttpConnection::Hold(std::size_t bytes) {
  if (!account_.Take(bytes)) return false;
  on_hold_ += bytes;
  return true;
}

void HttpConnection::Respond(int status, HttpHeaders headers, std::string body) {
  Answer& answer = handler_answer_;
  answer.status = status;
  answer.headers = std::move(headers);
  answer.body = std::move(body);
  answer.packed = Buffer(&account_);
  if (accepts_gzip_ && answer.body.size() >= clients_->options().min_gzip_bytes) {
    if (answer.body.size() > kSmallInflation && loop_->InThread() &&
        clients_->options().threads->workers()->Do(this)) {
      return;
    }
    PackAnswer();
  }
  CountAnswer();
  DeliverAnswer();
}

void HttpConnection::PackAnswer() {
  Answer& answer = handler_answer_;
  if (!DeflateIfSmaller(DeflateFormat::kGzip, kFast, answer.body, 0, &answer.packed)) return;
  std::string().swap(answer.body);
  try {
    answer.headers.emplace_back("Content-Encoding", "gzip");
    answer.headers.emplace_back("Vary", "Accept-Encoding");
  } catch (const std::exception&) {
    answer.packed.Clear();
    answer.status = 0;
  }
}

void HttpConnection::CountAnswer() {
  Answer& answer = handler_answer_;
  // Zero stands for an answer that there was no memory for.
  if (answer.status == 0 || !account_.Take(answer.body.capacity())) {
    std::string().swap(answer.body);
    answer.status = 0;
    return;
  }
  answer.counted = answer.body.capacity();
}

void HttpConnection::DeliverAnswer() {
  if (!loop_->InThread()) return loop_->Post(static_cast<Mail*>(this));
  if (in_handler_) {
    responded_ = true;
    return;
  }
  // Started in this round and answered in it, as those are that wait for the end of a round.
  if (state_ == State::kHandling) {
    try {
      loop_->FlushAtEndOfRound(this);
      responded_ = true;
      return;
    } catch (const std::exception&) {
      // By mail, then.
    }
  }
  loop_->Post(static_cast<Mail*>(this));
}

void HttpConnection::BuildAnswer(const Answer& answer, bool keep_alive) {
  if (answer.status == 0) {
    keep_alive_ = false;
    account_.Give(std::exchange(response_.counted, 0));
    FailForMemory();
    return;
  }
  close_after_ = !keep_alive || clients_->draining();
  std::string& head = answer_head_;
  head.assign("HTTP/1.1 ");
  head.append(std::to_string(answer.status)).append(" ").append(StatusReason(answer.status)).append("\r\n");
  for (const auto& [name, value] : answer.headers)
    head.append(name).append(": ").append(value).append("\r\n");
  head.append("Date: ").append(clients_->date());
  head.append("\r\nContent-Length: ").append(std::to_string(answer_body().size())).append("\r\n");
  if (close_after_) {
    head.append("Connection: close\r\n");
  } else if (head_.version() < 11) {
    head.append("Connection: keep-alive\r\n");
  }
  head.append("\r\n");
  written_ = 0;
  state_ = State::kWriting;
  SetDeadline(clients_->options().stall_timeout);
}

HttpConnection::Next HttpConnection::Fail(int status, std::string_view message) {
  request_whole_ = false;
  BuildError(status, message);
  return Next::kGoOn;
}

HttpConnection::Next HttpConnection::FailForMemory() {
  return Fail(503, "The server holds as much of requests and answers as it may; try again");
}

void HttpConnection::BuildError(int status, std::string_view message) {
  response_ = Answer();
  response_.status = status;
  response_.headers.emplace_back("Content-Type", "application/json");
  if (status == 503) response_.headers.emplace_back("Retry-After", "1");
  // The messages are ours and need no escapes.
  response_.body.append("{\"error\": \"").append(message).append("\"}");
  if (holder_ == Holder::kNobody) inflated_.Clear();
  BuildAnswer(response_, false);
}

HttpConnection::Next HttpConnection::Write() {
  const std::size_t head_size = answer_head_.size();
  const std::size_t total = head_size + answer_size();
  while (written_ < total || socket_.pending()) {
    iovec parts[2];
    int count = 0;
    if (written_ < head_size) parts[count++] = {answer_head_.data() + written_, head_size - written_};
    const std::size_t body_written = written_ < head_size ? 0 : written_ - head_size;
    if (body_written < answer_size()) {
      parts[count++] = {const_cast<char*>(answer_body().data()) + body_written, answer_size() - body_written};
    }
    std::size_t sent = 0;
    const bool whole = written_ == total;
    if (!(whole ? socket_.Flush() : socket_.Send(parts, count, &sent))) {
      Close();
      return Next::kGoOn;
    }
    written_ += sent;
    if (sent > 0)
      SetDeadline(clients_->draining() ? HttpClients::kDrainStall : clients_->options().stall_timeout);
    if (sent == 0 && (!whole || socket_.pending())) return Next::kWait;
  }
  return AfterAnswer();
}

void HttpConnection::ReleaseRequest() {
  account_.Give(std::exchange(on_hold_, 0));
  clients_->GiveBody(std::move(body_memory_));
  body_memory_ = Buffer(&account_);
  inflated_.Clear();
  body_ = {};
  Consume(in_buffer_);
  in_buffer_ = 0;
  parser_.reset();
}

HttpConnection::Next HttpConnection::AfterAnswer() {
  account_.Give(response_.counted);
  if (response_.body.capacity() >= kLargeAnswer) base::FreeElsewhere(std::move(response_.body));
  response_ = Answer();
  if (holder_ == Holder::kNobody) ReleaseRequest();
  if (close_after_) {
    // Closing at once, with something unread, would make the system reset the connection, and the client
    // might never see the answer.
    char next;
    const bool unread = !request_whole_ || buffered() > 0 || socket_.Receive(&next, 1) > 0;
    if (!unread) {
      socket_.SendEnd();
      Close();
      return Next::kGoOn;
    }
    socket_.SendEnd();
    state_ = State::kLingering;
    SetDeadline(kLinger);
    return Next::kGoOn;
  }
  if (buffered() > 0) {
    state_ = State::kHeader;
    SetDeadline(clients_->options().header_timeout);
  } else {
    state_ = State::kIdle;
    SetDeadline(clients_->options().idle_timeout);
  }
  if (++answered_in_turn_ < kRequestsInARow) return Next::kGoOn;
  loop_->NextRound(this);
  return Next::kWait;
}

HttpConnection::Next HttpConnection::Linger() {
  char waste[4096];
  for (int i = 0; i < 64; ++i) {
    const long got = socket_.Receive(waste, sizeof(waste));
    if (got < 0) return Next::kWait;
    if (got == 0) {
      Close();
      return Next::kGoOn;
    }
  }
  loop_->NextRound(this);
  return Next::kWait;
}

}  // namespace tfipu::serving::net::http1
