// The gRPC transport: listens, and hands every call to the method that is registered for its path.
#ifndef SERVING_GRPC_GRPC_SERVER_H_
#define SERVING_GRPC_GRPC_SERVER_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serving/api/rpc.h"

namespace tfipu::serving {

// Contents of PEM files.
struct GrpcTls {
  std::string server_key;
  std::string server_cert;
  std::string custom_ca;       // who may sign client certificates; empty: the system's authorities
  bool client_verify = false;  // clients must show a certificate
};

struct GrpcServerOptions {
  std::string host = "0.0.0.0";
  // TCP port, 0 for one that the system chooses; nullopt: no TCP. Plain text, or TLS when `tls` is set.
  std::optional<int> port;
  // Path of a Unix-domain socket to listen on beside TCP, in plain text; empty: none. A socket that a dead server left there
  // is replaced.
  std::string unix_socket_path;
  std::optional<GrpcTls> tls;
  // "key=value,key=value": gRPC channel arguments; a value that is a whole number is passed as one.
  std::string channel_arguments;
  // A larger request is refused with RESOURCE_EXHAUSTED as soon as its length is known.
  std::size_t max_request_bytes = 0x7fffffff;
  // Calls in flight in all; a further one is refused with RESOURCE_EXHAUSTED. 0: no bound.
  std::size_t max_calls = 0;
  // Serves grpc.health.v1.Health. The whole server ("") is healthy while it runs; a service or model that was never set
  // is unknown.
  bool health_service = true;
};

// Listening from Start() until Shutdown() or destruction. Methods are called on gRPC's threads, of which there are about as
// many as cores: a method that takes long must answer from another thread. Thread-safe.
class GrpcServer {
 public:
  // Null, and `*error` says why, when an option is wrong or an address cannot be listened on.
  static std::unique_ptr<GrpcServer> Start(GrpcServerOptions options, std::vector<RpcMethod> methods, std::string* error);
  // Shutdown(0).
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  // The TCP port listened on; 0 without TCP.
  int port() const;

  // What the health service answers for a service; "" is the server as a whole. Watchers are told.
  void SetHealth(const std::string& service, bool serving);

  // Accepts no more calls, waits until those in flight have finished but no longer than `drain`, then cancels the rest and
  // waits until their methods have finished them. Later calls do nothing.
  void Shutdown(std::chrono::milliseconds drain);

 private:
  class Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tfipu::serving

#endif  // SERVING_GRPC_GRPC_SERVER_H_
