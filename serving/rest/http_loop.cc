#include "serving/rest/http_loop.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <new>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "serving/core/short_slices.h"

namespace tfipu::serving {
namespace {

constexpr std::size_t kLargestSpareBody = 4 << 20;
constexpr int kMaxRefusing = 256;  // connections over the limit that are still told so

std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc;
  gmtime_r(&now, &utc);
  char text[64];
  const std::size_t size = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return std::string(text, size);
}

absl::Status Failed(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::generic_category().message(errno)));
}

}  // namespace

thread_local HttpLoop* HttpLoop::current_ = nullptr;

absl::Status HttpLoop::Open() {
  for (const std::chrono::milliseconds timeout :
       {options_.header_timeout, options_.stall_timeout, options_.idle_timeout, options_.call_timeout,
        options_.drain_timeout}) {
    if (timeout.count() > 0) tick_ = std::min(tick_, std::max(timeout / 4, std::chrono::milliseconds(5)));
  }
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  wakeup_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll_ < 0 || wakeup_ < 0) return Failed("Cannot make an event loop");
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.ptr = nullptr;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, wakeup_, &event) != 0) return Failed("Cannot make an event loop");
  return absl::OkStatus();
}

absl::Status HttpLoop::Listen(int listener) {
  listener_ = listener;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = this;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event) != 0) return Failed("Cannot listen");
  return absl::OkStatus();
}

void HttpLoop::Post(Message message) {
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

void HttpLoop::Adopt(int fd, bool refuse) {
  load_.fetch_add(1, std::memory_order_relaxed);
  if (InThread()) return Add(fd, refuse);
  Post({refuse ? Message::Kind::kRefuse : Message::Kind::kAdopt, fd, nullptr});
}

void HttpLoop::PostResponded(HttpConnection* connection) {
  Post({Message::Kind::kResponded, -1, connection});
}

void HttpLoop::PostDrain() { Post({Message::Kind::kDrain, -1, nullptr}); }

const std::string& HttpLoop::date() {
  if (now_ >= date_until_) {
    date_ = HttpDate();
    date_until_ = now_ + std::chrono::milliseconds(500);
  }
  return date_;
}

std::unique_ptr<char[]> HttpLoop::TakeBody(std::size_t* size) {
  if (spare_body_ != nullptr && spare_body_size_ >= *size) {
    *size = spare_body_size_;
    return std::move(spare_body_);
  }
  return std::unique_ptr<char[]>(new (std::nothrow) char[*size]);
}

void HttpLoop::GiveBody(std::unique_ptr<char[]> body, std::size_t size) {
  if (body == nullptr || size > kLargestSpareBody || (spare_body_ != nullptr && spare_body_size_ >= size))
    return;
  spare_body_ = std::move(body);
  spare_body_size_ = size;
}

void HttpLoop::Add(int fd, bool refuse) {
  auto connection = std::make_unique<HttpConnection>(this, fd);
  HttpConnection* const added = connection.get();
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

void HttpLoop::Forget(HttpConnection* connection) {
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

void HttpLoop::Accept() {
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
    HttpLoop* least = this;
    for (const std::unique_ptr<HttpLoop>& loop : server_->loops) {
      if (loop->load() < least->load()) least = loop.get();
    }
    least->Adopt(fd, refuse);
  }
}

void HttpLoop::TakeMessages() {
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
          // Who has connected is served. The other loops hear of the end after the last connection they are
          // handed.
          Accept();
          if (!accept_paused_) epoll_ctl(epoll_, EPOLL_CTL_DEL, listener_, nullptr);
          // The kernel would go on to accept connections that nobody serves.
          shutdown(listener_, SHUT_RDWR);
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

void HttpLoop::Sweep() {
  next_sweep_ = now_ + tick_;
  if (accept_paused_ && listener_ >= 0) {
    accept_paused_ = false;
    if (!Listen(listener_).ok()) accept_paused_ = true;
  }
  for (std::size_t i = connections_.size(); i-- > 0;) {
    HttpConnection* const connection = connections_[i].get();
    if (now_ >= drain_deadline_) {
      connection->Abandon();
    } else if (now_ >= connection->deadline()) {
      connection->OnDeadline();
    } else {
      connection->Trim();
    }
  }
}

int HttpLoop::WaitMilliseconds() const {
  if (!ready_.empty()) return 0;
  if (connections_.empty() && !accept_paused_) return -1;
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next_sweep_ - now_).count();
  return static_cast<int>(std::clamp<long long>(left + 1, 0, 1000));
}

void HttpLoop::Run() {
  AskForShortSlices();
  current_ = this;
  std::vector<epoll_event> events(256);
  while (!draining_ || !connections_.empty()) {
    const int count = wait_.Wait(epoll_, events.data(), static_cast<int>(events.size()), WaitMilliseconds());
    now_ = HttpClock::now();
    bool messages = false;
    for (int i = 0; i < count; ++i) {
      void* const source = events[i].data.ptr;
      if (source == nullptr) {
        messages = true;
      } else if (source == this) {
        if (listener_ >= 0) Accept();
      } else {
        auto* const connection = static_cast<HttpConnection*>(static_cast<HttpExchange*>(source));
        if (!connection->closed()) connection->OnEvents(events[i].events);
      }
    }
    if (messages) TakeMessages();
    for (std::size_t turns = ready_.size(); turns > 0 && !ready_.empty(); --turns) {
      HttpConnection* const connection = ready_.front();
      ready_.pop_front();
      connection->queued = false;
      connection->Advance();
    }
    if (now_ >= next_sweep_) Sweep();
    dead_.clear();
  }
  current_ = nullptr;
}

}  // namespace tfipu::serving
