#include "serving/net/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>

namespace tfipu::serving::net {
namespace {

constexpr EventLoop::TimePoint kRetry = 100000;

std::string ErrorText(const std::string& what) { return what + ": " + std::strerror(errno); }

int BindAndListen(const addrinfo& address) {
  const int fd =
      socket(address.ai_family, address.ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, address.ai_protocol);
  if (fd < 0) return -1;
  const int on = 1;
  const int off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address.ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  if (bind(fd, address.ai_addr, address.ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
  const int reason = errno;
  close(fd);
  errno = reason;
  return -1;
}

}  // namespace

int ListenTcp(const std::string& host, int port, int* bound, std::string* error) {
  const std::string where = "port " + std::to_string(port) + " of " + host;
  if (port < 0 || port > 65535) {
    *error = "The port is " + std::to_string(port) + ", expected 0 to 65535";
    return -1;
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* addresses = nullptr;
  const int failed = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &addresses);
  if (failed != 0) {
    *error = "Cannot listen on " + where + ": " + gai_strerror(failed);
    return -1;
  }
  int fd = -1;
  for (addrinfo* at = addresses; at != nullptr && fd < 0; at = at->ai_next) fd = BindAndListen(*at);
  const int reason = errno;
  freeaddrinfo(addresses);
  if (fd < 0) {
    errno = reason;
    *error = ErrorText("Cannot listen on " + where);
    return -1;
  }
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
    *error = ErrorText("Cannot listen on unix:" + path);
    if (fd >= 0) close(fd);
    return -1;
  }
  return fd;
}

Listener::Listener(IoThreads* threads, int fd, std::vector<std::atomic<int>>* loads, Admit admit, Adopt adopt)
    : threads_(threads),
      loop_(threads->loop(0)),
      fd_(fd),
      loads_(loads),
      admit_(std::move(admit)),
      adopt_(std::move(adopt)) {}

Listener::~Listener() {
  Close();
  close(fd_);
}

void Listener::Open() {
  loop_->Post([this] { watched_ = loop_->Watch(fd_, EPOLLIN, this); });
}

void Listener::Close() {
  if (closed_) return;
  closed_ = true;
  threads_->RunOnEach([this](std::size_t index) {
    if (index != 0) return;
    if (paused_) loop_->RemoveTimer(retry_);
    paused_ = true;  // for good
    if (watched_) AcceptAll();
    if (watched_) loop_->Unwatch(fd_, this);
    watched_ = false;
    // The kernel would go on to accept connections that nobody serves.
    shutdown(fd_, SHUT_RDWR);
  });
  // The last ones are posted to their loops.
  threads_->RunOnEach([](std::size_t) {});
}

void Listener::OnSocket(std::uint32_t) { AcceptAll(); }

void Listener::AcceptAll() {
  // A flood of connections lets others have their turn.
  for (int i = 0; i < 256; ++i) {
    const int fd = accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) Pause();
      return;
    }
    Descriptor connection(fd);
    if (!admit_ || admit_()) Give(std::move(connection));
  }
}

void Listener::Pause() {
  // Nothing can be accepted until something is closed.
  if (paused_) return;
  try {
    retry_ = loop_->AddTimer(EventLoop::Now() + kRetry, [this] {
      paused_ = false;
      watched_ = loop_->Watch(fd_, EPOLLIN, this);
    });
  } catch (const std::exception&) {
    return;
  }
  paused_ = true;
  if (watched_) loop_->Unwatch(fd_, this);
  watched_ = false;
}

void Listener::Give(Descriptor fd) {
  std::size_t least = 0;
  for (std::size_t i = 1; i < loads_->size(); ++i) {
    if ((*loads_)[i].load(std::memory_order_relaxed) < (*loads_)[least].load(std::memory_order_relaxed))
      least = i;
  }
  // It counts from now on, or all of a burst would go to one loop.
  (*loads_)[least].fetch_add(1, std::memory_order_relaxed);
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on,
             sizeof(on));  // of a Unix socket it fails and does nothing
  const auto adopt = [this, least](Descriptor adopted) noexcept {
    try {
      adopt_(least, std::move(adopted));
    } catch (const std::exception&) {
      (*loads_)[least].fetch_sub(1, std::memory_order_relaxed);
    }
  };
  if (least == 0) return adopt(std::move(fd));
  try {
    auto shared = std::make_shared<Descriptor>(std::move(fd));
    threads_->loop(least)->Post([adopt, shared] { adopt(std::move(*shared)); });
  } catch (const std::exception&) {
    (*loads_)[least].fetch_sub(1, std::memory_order_relaxed);
  }
}

}  // namespace tfipu::serving::net
