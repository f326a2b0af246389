#include "serving/grpc/grpc_server.h"

#include <utility>

#include "serving/grpc/channel_arguments.h"
#include "serving/grpc/health.h"
#include "serving/net/http2/rpc_server.h"

namespace tfipu::serving {

class GrpcServer::Impl {
 public:
  bool Start(GrpcServerOptions options, std::vector<net::http2::RpcMethod> methods, std::string* error) {
    net::http2::RpcServerOptions transport;
    transport.settings.max_request_bytes = options.max_request_bytes;
    transport.settings.max_calls = options.max_calls;
    transport.settings.max_connection_bytes = options.max_connection_bytes;
    *error = ParseChannelArguments(options.channel_arguments, &transport.settings, &ignored_arguments_);
    if (!error->empty()) return false;
    if (options.health_service) {
      for (net::http2::RpcMethod& method : health_.Methods()) methods.push_back(std::move(method));
    }
    transport.host = std::move(options.host);
    transport.port = options.port;
    transport.unix_socket_path = std::move(options.unix_socket_path);
    transport.tls = std::move(options.tls);
    transport.max_connections = options.max_connections;
    transport.threads = std::move(options.threads);
    transport.budget = options.budget;
    server_ = net::http2::RpcServer::Start(std::move(transport), std::move(methods), error);
    return server_ != nullptr;
  }

  void SetHealth(const std::string& service, bool serving) {
    health_.Set(service, serving ? HealthService::kServing : HealthService::kNotServing);
    server_->Notify();
  }

  void Shutdown(std::chrono::milliseconds drain) {
    if (server_ == nullptr) return;
    health_.End();
    server_->Shutdown(drain);
  }

  int port() const { return server_->port(); }
  const std::vector<std::string>& ignored_arguments() const { return ignored_arguments_; }

 private:
  HealthService health_;
  std::vector<std::string> ignored_arguments_;
  std::unique_ptr<net::http2::RpcServer> server_;
};

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GrpcServer::~GrpcServer() { Shutdown(std::chrono::milliseconds(0)); }

std::unique_ptr<GrpcServer> GrpcServer::Start(GrpcServerOptions options,
                                              std::vector<net::http2::RpcMethod> methods,
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
