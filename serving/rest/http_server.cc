#include "serving/rest/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "serving/rest/http_loop.h"

namespace tfipu::serving {
namespace {

absl::Status Failed(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::generic_category().message(errno)));
}

absl::Status OpenListener(const HttpServerOptions& options, int* listener, int* port) {
  sockaddr_storage address{};
  socklen_t size;
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&address);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address);
  if (options.port < 0 || options.port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("The HTTP port is ", options.port, ", expected 0 to 65535"));
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
    return absl::InvalidArgumentError(absl::StrCat("The HTTP address is \"", options.address,
                                                   "\", expected a numeric IPv4 or IPv6 address"));
  }
  const int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Failed("Cannot make a socket");
  *listener = fd;
  const int on = 1;
  const int off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, SOMAXCONN) != 0) {
    return Failed(absl::StrCat("Cannot listen on HTTP port ", options.port, " of ", options.address));
  }
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return Failed("Cannot tell the port");
  *port = ntohs(address.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
  return absl::OkStatus();
}

}  // namespace

class HttpServer::State {
 public:
  State(HttpServerOptions options, HttpHandler handler) {
    shared_.options = std::move(options);
    shared_.handler = std::move(handler);
  }
  ~State() { Shutdown(); }

  absl::Status Start() {
    if (absl::Status status = OpenListener(shared_.options, &listener_, &port_); !status.ok()) return status;
    const int threads = shared_.options.threads > 0 ? shared_.options.threads
                                                    : std::max(1u, std::thread::hardware_concurrency());
    for (int i = 0; i < threads; ++i) {
      shared_.loops.push_back(std::make_unique<HttpLoop>(&shared_));
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
  HttpShared shared_;
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
