#include "serving/net/http1/http_server.h"

#include <mutex>
#include <utility>
#include <vector>

#include "serving/net/http1/http_clients.h"
#include "serving/net/listener.h"

namespace tfipu::serving::net::http1 {
namespace {

constexpr int kMaxRefusing = 256;  // connections over the limit that are still told so

}  // namespace

class HttpServer::Impl {
 public:
  Impl(HttpServerOptions options, HttpHandler handler) {
    shared_.options = std::move(options);
    shared_.handler = std::move(handler);
  }
  ~Impl() { Shutdown(); }

  bool Start(std::string* error) {
    const HttpServerOptions& options = shared_.options;
    if (options.tls) {
      shared_.tls = TlsContext::Create(*options.tls, "http/1.1", error);
      if (shared_.tls == nullptr) return false;
    }
    threads_ = options.threads;
    if (threads_ == nullptr) threads_ = IoThreads::Start(options.own_threads, {}, error);
    if (threads_ == nullptr) return false;
    shared_.options.threads = threads_;
    const int fd = ListenTcp(options.address, options.port, &port_, error);
    if (fd < 0) return false;
    shared_.loads = std::vector<std::atomic<int>>(threads_->size());
    for (std::size_t i = 0; i < threads_->size(); ++i) {
      clients_.push_back(std::make_unique<HttpClients>(&shared_, threads_->loop(i), i));
    }
    listener_ = std::make_unique<Listener>(
        threads_.get(), fd, &shared_.loads, [this] { return Admit(); },
        [this](std::size_t loop, Descriptor adopted) { Adopt(loop, std::move(adopted)); });
    listener_->Open();
    return true;
  }

  int port() const { return port_; }

  void Shutdown() {
    std::lock_guard<std::mutex> once(shutdown_);
    if (listener_ == nullptr) return;
    // Who has connected is served. The loops hear of the end after the last connection they are handed.
    listener_->Close();
    threads_->RunOnEach([this](std::size_t index) { clients_[index]->Drain(); });
    {
      std::unique_lock<std::mutex> lock(shared_.mutex);
      shared_.closed.wait(lock, [this] { return shared_.connections == 0 && shared_.refusing == 0; });
    }
    threads_->RunOnEach([this](std::size_t index) { clients_[index]->Stop(); });
    listener_.reset();
  }

 private:
  // On the first loop's thread.
  bool Admit() {
    if (shared_.connections < shared_.options.max_connections) return true;
    return shared_.refusing < kMaxRefusing;
  }

  void Adopt(std::size_t loop, Descriptor fd) {
    // Those that are admitted at the same time on several threads may go beyond the bound by a few.
    const bool refuse = shared_.connections.fetch_add(1) >= shared_.options.max_connections;
    if (refuse) {
      --shared_.connections;
      ++shared_.refusing;
    }
    try {
      clients_[loop]->Add(std::move(fd), refuse);
    } catch (...) {
      --(refuse ? shared_.refusing : shared_.connections);
      throw;
    }
  }

  HttpShared shared_;
  std::shared_ptr<IoThreads> threads_;
  std::vector<std::unique_ptr<HttpClients>> clients_;
  std::unique_ptr<Listener> listener_;
  int port_ = 0;
  std::mutex shutdown_;
};

HttpServer::HttpServer(HttpServerOptions options, HttpHandler handler)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(handler))) {}

HttpServer::~HttpServer() = default;

bool HttpServer::Start(std::string* error) { return impl_->Start(error); }

int HttpServer::port() const { return impl_->port(); }

void HttpServer::Shutdown() { impl_->Shutdown(); }

}  // namespace tfipu::serving::net::http1
