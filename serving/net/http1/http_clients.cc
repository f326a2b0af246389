#include "serving/net/http1/http_clients.h"

#include <algorithm>
#include <ctime>
#include <exception>
#include <utility>

namespace tfipu::serving::net::http1 {
namespace {

std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc;
  gmtime_r(&now, &utc);
  char text[64];
  const std::size_t size = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return std::string(text, size);
}

}  // namespace

HttpClients::HttpClients(HttpShared* server, EventLoop* loop, std::size_t index)
    : server_(server), loop_(loop), index_(index) {
  const HttpServerOptions& options = server->options;
  for (const std::chrono::microseconds timeout : std::initializer_list<std::chrono::microseconds>{
           options.header_timeout, options.stall_timeout, options.idle_timeout, options.call_timeout,
           options.drain_timeout}) {
    if (timeout.count() > 0)
      tick_ = std::min<EventLoop::TimePoint>(tick_, std::max<long>(timeout.count() / 4, 5000));
  }
}

const std::string& HttpClients::date() {
  const EventLoop::TimePoint now = loop_->round_start();
  if (now >= date_until_) {
    date_ = HttpDate();
    date_until_ = now + 500000;
  }
  return date_;
}

Buffer HttpClients::TakeBody(std::size_t size) {
  // What is small must not be counted as more than it is.
  return size > MemoryBudget::kFreeBytes && spare_body_.capacity() >= size ? std::move(spare_body_)
                                                                           : Buffer();
}

void HttpClients::GiveBody(Buffer body) {
  if (body.capacity() > kLargestSpareBody || body.capacity() <= spare_body_.capacity()) return;
  body.CountBy(nullptr);
  body.set_size(0);
  spare_body_ = std::move(body);
}

void HttpClients::Add(Descriptor fd, bool refuse) {
  if (connections_.size() == connections_.capacity()) connections_.reserve(16 + 2 * connections_.size());
  ArmSweep();
  std::unique_ptr<TlsSession> tls;
  if (server_->tls != nullptr) tls = std::make_unique<TlsSession>(*server_->tls);
  auto* const connection = new HttpConnection(this, std::move(fd), std::move(tls));
  connection->index = connections_.size();
  connection->refused = refuse;
  connections_.push_back(connection);
  connection->Begin();
}

void HttpClients::Forget(HttpConnection* connection) {
  const std::size_t index = connection->index;
  connections_[index] = connections_.back();
  connections_[index]->index = index;
  connections_.pop_back();
  loop_->DeleteLater(connection);
  server_->loads[index_].fetch_sub(1, std::memory_order_relaxed);
  (connection->refused ? server_->refusing : server_->connections).fetch_sub(1, std::memory_order_relaxed);
  if (draining_) {
    std::lock_guard<std::mutex> lock(server_->mutex);
    server_->closed.notify_all();
  }
}

void HttpClients::Drain() {
  if (draining_) return;
  draining_ = true;
  drain_deadline_ = EventLoop::Now() + std::chrono::microseconds(options().drain_timeout).count();
  // From the end, as a closed connection leaves the list.
  for (std::size_t i = connections_.size(); i-- > 0;) connections_[i]->OnDrain();
}

void HttpClients::Stop() {
  if (sweep_) loop_->RemoveTimer(*sweep_);
  sweep_.reset();
  spare_body_.Clear();
}

void HttpClients::ArmSweep() {
  if (!sweep_) sweep_ = loop_->AddTimer(EventLoop::Now() + tick_, [this] { Sweep(); });
}

void HttpClients::Sweep() {
  sweep_.reset();
  const EventLoop::TimePoint now = EventLoop::Now();
  for (std::size_t i = connections_.size(); i-- > 0;) {
    HttpConnection* const connection = connections_[i];
    if (now >= drain_deadline_) {
      connection->Abandon();
    } else if (now >= connection->deadline()) {
      connection->OnDeadline();
    } else {
      connection->Trim();
    }
  }
  if (!connections_.empty()) {
    try {
      ArmSweep();
    } catch (const std::exception&) {
      // The next connection tries again.
    }
  }
}

}  // namespace tfipu::serving::net::http1
