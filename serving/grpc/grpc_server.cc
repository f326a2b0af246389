#include "serving/grpc/grpc_server.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>
#include <unordered_set>
#include <utility>

#include "serving/grpc/http2_connection.h"
#include "serving/grpc/io_loop.h"
#include "serving/grpc/tls.h"

namespace tfipu::serving {
namespace {

constexpr IoLoop::TimePoint kTick = 1000000;

// A whole number, which INT_MAX stands for none of in gRPC's times.
bool ParseInt(const std::string& text, int* value) {
  char* rest = nullptr;
  errno = 0;
  const long number = std::strtol(text.c_str(), &rest, 10);
  if (text.empty() || *rest != '\0' || errno != 0 || number < INT_MIN || number > INT_MAX) return false;
  *value = static_cast<int>(number);
  return true;
}

std::int64_t MillisToMicros(int millis) {
  return millis == INT_MAX || millis < 0 ? INT64_MAX : millis * INT64_C(1000);
}

// Reads "key=value,key=value" into settings. The error text, or empty.
std::string ParseChannelArguments(const std::string& arguments, Http2Settings* settings,
                                  std::vector<std::string>* ignored) {
  for (std::size_t begin = 0; begin < arguments.size();) {
    const std::size_t end = std::min(arguments.find(',', begin), arguments.size());
    const std::string argument = arguments.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t equals = argument.find('=');
    if (equals == std::string::npos || equals == 0) {
      return "gRPC channel argument \"" + argument + "\" is not of the form key=value";
    }
    const std::string key = argument.substr(0, equals);
    int number = 0;
    const bool is_number = ParseInt(argument.substr(equals + 1), &number);
    if (key == "grpc.default_compression_algorithm") {
      if (!is_number || number < 0 || number > 2) {
        return "gRPC channel argument " + key + " must be 0 (none), 1 (deflate) or 2 (gzip)";
      }
      settings->reply_encoding.reset();
      if (number == 1) settings->reply_encoding = MessageEncoding::kDeflate;
      if (number == 2) settings->reply_encoding = MessageEncoding::kGzip;
      continue;
    }
    struct {
      const char* key;
      std::int64_t* micros;
    } const times[] = {{"grpc.keepalive_time_ms", &settings->keepalive_time},
                       {"grpc.keepalive_timeout_ms", &settings->keepalive_timeout},
                       {"grpc.max_connection_idle_ms", &settings->max_idle},
                       {"grpc.max_connection_age_ms", &settings->max_age},
                       {"grpc.max_connection_age_grace_ms", &settings->max_age_grace},
                       {"grpc.server_handshake_timeout_ms", &settings->handshake_timeout}};
    auto time = std::find_if(std::begin(times), std::end(times),
                             [&key](const auto& entry) { return key == entry.key; });
    if (time != std::end(times)) {
      if (!is_number) return "gRPC channel argument " + key + " must be a whole number of milliseconds";
      *time->micros = MillisToMicros(number);
    } else if (key == "grpc.max_concurrent_streams" || key == "grpc.max_metadata_size") {
      if (!is_number || number < 1)
        return "gRPC channel argument " + key + " must be a positive whole number";
      (key == "grpc.max_metadata_size" ? settings->max_header_bytes : settings->max_concurrent_streams) =
          number;
    } else if (key == "grpc.max_receive_message_length" || key == "grpc.max_send_message_length") {
      if (!is_number) return "gRPC channel argument " + key + " must be a whole number";
      if (key == "grpc.max_receive_message_length") {
        settings->max_request_bytes = number < 0 ? INT_MAX : number;
      } else {
        settings->max_reply_bytes = number < 0 ? UINT_MAX : number;
      }
    } else {
      ignored->push_back(key);
    }
  }
  return "";
}

std::string ErrorText(const std::string& what) { return what + ": " + std::strerror(errno); }

int ListenTcp(const std::string& host, int port, int* bound, std::string* error) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* addresses = nullptr;
  const std::string address = host + ":" + std::to_string(port);
  const int failed = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &addresses);
  if (failed != 0) {
    *error = "Could not listen for gRPC on " + address + ": " + gai_strerror(failed);
    return -1;
  }
  int fd = -1;
  for (addrinfo* at = addresses; at != nullptr && fd < 0; at = at->ai_next) {
    fd = socket(at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at->ai_protocol);
    if (fd < 0) continue;
    const int one = 1;
    const int zero = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (at->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
      *error = ErrorText("Could not listen for gRPC on " + address);
      close(fd);
      fd = -1;
    }
  }
  freeaddrinfo(addresses);
  if (fd < 0) return -1;
  sockaddr_storage name{};
  socklen_t size = sizeof(name);
  getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size);
  *bound = ntohs(name.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&name)->sin6_port
                                            : reinterpret_cast<sockaddr_in*>(&name)->sin_port);
  return fd;
}

int ListenUnix(const std::string& path, std::string* error) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    *error = "The path of a Unix socket may have " + std::to_string(sizeof(address.sun_path) - 1) +
             " bytes: " + path;
    return -1;
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  auto* name = reinterpret_cast<sockaddr*>(&address);
  int result = fd < 0 ? -1 : bind(fd, name, sizeof(address));
  if (fd >= 0 && result != 0 && errno == EADDRINUSE) {
    // A socket that nobody listens on was left by a server that is dead.
    struct stat status;
    const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool dead = stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) && probe >= 0 &&
                      connect(probe, name, sizeof(address)) != 0 && errno == ECONNREFUSED;
    if (probe >= 0) close(probe);
    errno = EADDRINUSE;
    if (dead) {
      unlink(path.c_str());
      result = bind(fd, name, sizeof(address));
    }
  }
  if (result != 0 || listen(fd, SOMAXCONN) != 0) {
    *error = ErrorText("Could not listen for gRPC on unix:" + path);
    if (fd >= 0) close(fd);
    return -1;
  }
  return fd;
}

}  // namespace

class GrpcServer::Impl {
 public:
  ~Impl() {
    // Loops end first: what runs on them refers to all the rest.
    for (auto& loop : loops_) loop->loop.Stop();
    for (auto& listener : listeners_) close(listener->fd);
    nghttp2_session_callbacks_del(context_.callbacks);
    nghttp2_option_del(context_.options);
  }

  bool Start(GrpcServerOptions options, std::vector<RpcMethod> methods, std::string* error);
  void SetHealth(const std::string& service, bool serving);
  void Shutdown(std::chrono::milliseconds drain);

  int port() const { return port_; }
  const std::vector<std::string>& ignored_arguments() const { return ignored_arguments_; }

 private:
  struct Loop {
    explicit Loop(std::chrono::microseconds spin) : loop(spin) {}
    IoLoop loop;
    std::unordered_set<Http2Connection*> connections;  // on the loop's thread
  };

  // Accepts connections on the first loop and deals them out.
  class Listener final : public SocketWatcher {
   public:
    Listener(Impl* server, int fd, bool tcp) : fd(fd), server_(server), tcp_(tcp) {}
    void OnSocket(std::uint32_t) override { server_->AcceptFrom(this); }

    const int fd;

   private:
    friend class Impl;
    Impl* const server_;
    const bool tcp_;
  };

  void AcceptFrom(Listener* listener);
  void Serve(Loop* loop, int fd, bool tcp);
  void Tick(Loop* loop);
  // Runs something for every connection there is; it may close them.
  template <typename Function>
  void ForEachConnection(Function function);

  ConnectionContext context_;
  std::unique_ptr<TlsContext> tls_;
  std::vector<std::unique_ptr<Loop>> loops_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::string unix_path_;
  std::vector<std::string> ignored_arguments_;
  std::size_t max_connections_ = 0;
  int port_ = 0;
  std::size_t next_loop_ = 0;  // on the first loop's thread
  std::atomic<std::size_t> connections_{0};
  std::once_flag shutdown_;
  std::atomic<bool> draining_{false};
};

bool GrpcServer::Impl::Start(GrpcServerOptions options, std::vector<RpcMethod> methods, std::string* error) {
  Http2Settings& settings = context_.settings;
  settings.max_request_bytes = options.max_request_bytes;
  settings.max_calls = options.max_calls;
  max_connections_ = options.max_connections;
  *error = ParseChannelArguments(options.channel_arguments, &settings, &ignored_arguments_);
  if (!error->empty()) return false;
  if (options.tls) {
    tls_ = TlsContext::Create(*options.tls, error);
    if (tls_ == nullptr) return false;
  }
  for (RpcMethod& method : methods) {
    std::string path = method.path;
    context_.methods[std::move(path)].rpc = std::move(method);
  }
  if (options.health_service) {
    context_.methods["/grpc.health.v1.Health/Check"].rpc.handle = [this](RpcCall* call) {
      context_.health.Check(call);
    };
    context_.methods["/grpc.health.v1.Health/Watch"].health_watch = true;
  }
  context_.callbacks = NewSessionCallbacks();
  context_.options = NewSessionOptions();
  const int threads = options.io_threads > 0
                          ? options.io_threads
                          : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (int i = 0; i < threads; ++i) {
    loops_.push_back(std::make_unique<Loop>(options.spin));
    if (!loops_.back()->loop.ok()) {
      *error = ErrorText("Could not set up a thread for gRPC");
      return false;
    }
  }
  if (options.port) {
    const int fd = ListenTcp(options.host, *options.port, &port_, error);
    if (fd < 0) return false;
    listeners_.push_back(std::make_unique<Listener>(this, fd, true));
  }
  if (!options.unix_socket_path.empty()) {
    const int fd = ListenUnix(options.unix_socket_path, error);
    if (fd < 0) return false;
    unix_path_ = options.unix_socket_path;
    listeners_.push_back(std::make_unique<Listener>(this, fd, false));
  }
  if (listeners_.empty()) {
    *error = "A gRPC server needs a TCP port or a Unix socket to listen on";
    return false;
  }
  for (auto& loop : loops_) context_.loops.push_back(&loop->loop);
  for (auto& listener : listeners_) loops_[0]->loop.Watch(listener->fd, EPOLLIN, listener.get());
  for (auto& loop : loops_) {
    Tick(loop.get());
    loop->loop.Start();
  }
  return true;
}

void GrpcServer::Impl::Tick(Loop* loop) {
  const IoLoop::TimePoint now = IoLoop::Now();
  // A connection may leave the set in its tick.
  const std::vector<Http2Connection*> connections(loop->connections.begin(), loop->connections.end());
  for (Http2Connection* connection : connections) connection->OnTick(now);
  loop->loop.AddTimer(now + kTick, [this, loop] { Tick(loop); });
}

void GrpcServer::Impl::AcceptFrom(Listener* listener) {
  while (true) {
    const int fd = accept4(listener->fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        // Nothing can be accepted until something is closed.
        IoLoop& loop = loops_[0]->loop;
        loop.Unwatch(listener->fd, listener);
        loop.AddTimer(IoLoop::Now() + 100000, [this, listener] {
          if (!draining_) loops_[0]->loop.Watch(listener->fd, EPOLLIN, listener);
        });
      }
      return;
    }
    if (draining_ || (max_connections_ != 0 && connections_.load() >= max_connections_)) {
      close(fd);
      continue;
    }
    ++connections_;
    Loop* loop = loops_[next_loop_++ % loops_.size()].get();
    const bool tcp = listener->tcp_;
    loop->loop.Post([this, loop, fd, tcp] { Serve(loop, fd, tcp); });
  }
}

void GrpcServer::Impl::Serve(Loop* loop, int fd, bool tcp) {
  std::unique_ptr<TlsSession> tls;
  if (tcp) {
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (tls_ != nullptr) tls = std::make_unique<TlsSession>(*tls_);
  }
  auto* connection =
      new Http2Connection(&loop->loop, &context_, fd, std::move(tls), [this, loop](auto* closed) {
        loop->connections.erase(closed);
        --connections_;
      });
  loop->connections.insert(connection);
  if (connection->Start() && draining_) connection->Drain();
}

template <typename Function>
void GrpcServer::Impl::ForEachConnection(Function function) {
  for (auto& loop : loops_) {
    loop->loop.Post([loop = loop.get(), function] {
      const std::vector<Http2Connection*> connections(loop->connections.begin(), loop->connections.end());
      for (Http2Connection* connection : connections) function(connection);
    });
  }
}

void GrpcServer::Impl::SetHealth(const std::string& service, bool serving) {
  context_.health.Set(service, serving ? Health::kServing : Health::kNotServing);
  ForEachConnection([](Http2Connection* connection) { connection->OnHealthChanged(); });
}

void GrpcServer::Impl::Shutdown(std::chrono::milliseconds drain) {
  std::call_once(shutdown_, [&] {
    context_.health.End();
    draining_ = true;
    if (!unix_path_.empty()) unlink(unix_path_.c_str());
    loops_[0]->loop.Post([this] {
      for (auto& listener : listeners_) {
        loops_[0]->loop.Unwatch(listener->fd, listener.get());
        // Who waits to be accepted is refused now and not left waiting.
        shutdown(listener->fd, SHUT_RDWR);
      }
    });
    ForEachConnection([](Http2Connection* connection) { connection->OnHealthChanged(); });
    ForEachConnection([](Http2Connection* connection) { connection->Drain(); });
    const auto end = std::chrono::steady_clock::now() + drain;
    const auto pause = std::chrono::milliseconds(2);
    while (connections_ > 0 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(pause);
    ForEachConnection([](Http2Connection* connection) { connection->Close(); });
    while (connections_ > 0 || context_.calls > 0) std::this_thread::sleep_for(pause);
  });
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GrpcServer::~GrpcServer() { Shutdown(std::chrono::milliseconds(0)); }

std::unique_ptr<GrpcServer> GrpcServer::Start(GrpcServerOptions options, std::vector<RpcMethod> methods,
                                              std::string* error) {
  auto impl = std::make_unique<Impl>();
  if (!impl->Start(std::move(options), std::move(methods), error)) return nullptr;
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

int GrpcServer::port() const { return impl_->port(); }

const std::vector<std::string>& GrpcServer::ignored_arguments() const { return impl_->ignored_arguments(); }

void GrpcServer::SetHealth(const std::string& service, bool serving) { impl_->SetHealth(service, serving); }

void GrpcServer::Shutdown(std::chrono::milliseconds drain) { impl_->Shutdown(drain); }

}  // namespace tfipu::serving
