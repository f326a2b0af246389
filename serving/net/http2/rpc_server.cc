#include "serving/net/http2/rpc_server.h"

#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>

#include "serving/net/http2/connection.h"
#include "serving/net/listener.h"

namespace tfipu::serving::net::http2 {
namespace {

constexpr EventLoop::TimePoint kTick = 1000000;
constexpr EventLoop::TimePoint kDrainTick = 100000;
constexpr std::chrono::milliseconds kPause{2};

}  // namespace

class RpcServer::Impl {
 public:
  bool Start(RpcServerOptions options, std::vector<RpcMethod> methods, std::string* error);
  void Notify();
  void Shutdown(std::chrono::milliseconds drain);
  int port() const { return port_; }

 private:
  // The connections of one loop, on its thread.
  struct Clients {
    std::unordered_set<Connection*> connections;
    std::optional<EventLoop::Timers::iterator> tick;
  };

  void Listen(int fd);
  void Adopt(std::size_t index, Descriptor fd, bool tcp);
  void Tick(std::size_t index);
  // Runs something for every connection there is, and waits until it has; it may close them.
  template <typename Function>
  void ForEachConnection(Function function);
  void WaitFor(std::chrono::steady_clock::time_point end);

  CallContext context_;
  MemoryBudget* budget_ = nullptr;
  std::unique_ptr<TlsContext> tls_;
  std::shared_ptr<IoThreads> threads_;
  std::vector<Clients> clients_;
  std::vector<std::atomic<int>> loads_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::string unix_path_;
  std::size_t max_connections_ = 0;
  int port_ = 0;
  std::atomic<std::size_t> connections_{0};
  std::once_flag shutdown_;
  std::atomic<bool> draining_{false};
};

bool RpcServer::Impl::Start(RpcServerOptions options, std::vector<RpcMethod> methods, std::string* error) {
  context_.settings = options.settings;
  max_connections_ = options.max_connections;
  budget_ = options.budget;
  if (options.tls) {
    tls_ = TlsContext::Create(*options.tls, "h2", error);
    if (tls_ == nullptr) return false;
  }
  for (RpcMethod& method : methods) {
    std::string path = method.path;
    context_.methods[std::move(path)] = std::move(method);
  }
  threads_ = options.threads;
  if (threads_ == nullptr) threads_ = IoThreads::Start(0, {}, error);
  if (threads_ == nullptr) return false;
  context_.workers = threads_->workers();
  for (std::size_t i = 0; i < threads_->size(); ++i) context_.loops.push_back(threads_->loop(i));
  clients_.resize(threads_->size());
  loads_ = std::vector<std::atomic<int>>(threads_->size());
  const auto listen = [this](int fd, bool tcp) {
    listeners_.push_back(std::make_unique<Listener>(
        threads_.get(), fd, &loads_,
        [this] { return max_connections_ == 0 || connections_.load() < max_connections_; },
        [this, tcp](std::size_t index, Descriptor adopted) { Adopt(index, std::move(adopted), tcp); }));
  };
  if (options.port) {
    const int fd = ListenTcp(options.host, *options.port, &port_, error);
    if (fd < 0) return false;
    listen(fd, true);
  }
  if (!options.unix_socket_path.empty()) {
    const int fd = ListenUnix(options.unix_socket_path, error);
    if (fd < 0) return false;
    unix_path_ = options.unix_socket_path;
    listen(fd, false);
  }
  if (listeners_.empty()) {
    *error = "A gRPC server needs a TCP port or a Unix socket to listen on";
    return false;
  }
  threads_->RunOnEach([this](std::size_t index) { Tick(index); });
  for (auto& listener : listeners_) listener->Open();
  return true;
}

void RpcServer::Impl::Tick(std::size_t index) {
  EventLoop* const loop = threads_->loop(index);
  const EventLoop::TimePoint now = EventLoop::Now();
  Clients& clients = clients_[index];
  // Before anything can throw.
  clients.tick = loop->AddTimer(now + (draining_ ? kDrainTick : kTick), [this, index] { Tick(index); });
  // A connection may leave the set in its tick; it is deleted later.
  const std::vector<Connection*> connections(clients.connections.begin(), clients.connections.end());
  for (Connection* connection : connections) connection->OnTick(now);
}

void RpcServer::Impl::Adopt(std::size_t index, Descriptor fd, bool tcp) {
  std::unique_ptr<TlsSession> tls;
  if (tcp && tls_ != nullptr) tls = std::make_unique<TlsSession>(*tls_);
  Clients& clients = clients_[index];
  auto connection = std::make_unique<Connection>(threads_->loop(index), &context_, budget_, std::move(fd),
                                                 std::move(tls), [this, index](Connection* closed) {
                                                   clients_[index].connections.erase(closed);
                                                   loads_[index].fetch_sub(1, std::memory_order_relaxed);
                                                   --connections_;
                                                 });
  clients.connections.insert(connection.get());
  ++connections_;
  Connection* const started = connection.release();  // its loop's, from now on
  started->Start();
  if (draining_) started->Drain(true);
}

template <typename Function>
void RpcServer::Impl::ForEachConnection(Function function) {
  threads_->RunOnEach([&](std::size_t index) {
    const auto& set = clients_[index].connections;
    const std::vector<Connection*> connections(set.begin(), set.end());
    for (Connection* connection : connections) function(connection);
  });
}

void RpcServer::Impl::Notify() {
  for (std::size_t i = 0; i < threads_->size(); ++i) {
    threads_->loop(i)->Post([this, i] {
      const auto& set = clients_[i].connections;
      const std::vector<Connection*> connections(set.begin(), set.end());
      for (Connection* connection : connections) connection->OnNotified();
    });
  }
}

void RpcServer::Impl::WaitFor(std::chrono::steady_clock::time_point end) {
  while ((connections_ > 0 || context_.calls > 0) && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(kPause);
  }
}

void RpcServer::Impl::Shutdown(std::chrono::milliseconds drain) {
  std::call_once(shutdown_, [&] {
    if (threads_ == nullptr) return;
    if (!unix_path_.empty()) unlink(unix_path_.c_str());
    const auto end = std::chrono::steady_clock::now() + drain;
    draining_ = true;
    for (auto& listener : listeners_) listener->Close();
    ForEachConnection([](Connection* connection) {
      connection->OnNotified();
      connection->Drain(true);
    });
    threads_->RunOnEach([this](std::size_t index) {
      if (clients_.empty() || !clients_[index].tick) return;
      threads_->loop(index)->RemoveTimer(*clients_[index].tick);
      Tick(index);
    });
    WaitFor(end);
    ForEachConnection([](Connection* connection) { connection->Close(); });
    WaitFor(std::chrono::steady_clock::time_point::max());
    threads_->RunOnEach([this](std::size_t index) {
      if (!clients_.empty() && clients_[index].tick)
        threads_->loop(index)->RemoveTimer(*clients_[index].tick);
    });
    listeners_.clear();
  });
}

RpcServer::RpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

RpcServer::~RpcServer() { Shutdown(std::chrono::milliseconds(0)); }

std::unique_ptr<RpcServer> RpcServer::Start(RpcServerOptions options, std::vector<RpcMethod> methods,
                                            std::string* error) {
  std::unique_ptr<RpcServer> server(new RpcServer(std::make_unique<Impl>()));
  if (!server->impl_->Start(std::move(options), std::move(methods), error)) return nullptr;
  return server;
}

int RpcServer::port() const { return impl_->port(); }

void RpcServer::Notify() { impl_->Notify(); }

void RpcServer::Shutdown(std::chrono::milliseconds drain) { impl_->Shutdown(drain); }

}  // namespace tfipu::serving::net::http2
