// A gRPC server: the transport with what gRPC servers have besides, channel arguments and health.
#ifndef SERVING_GRPC_GRPC_SERVER_H_
#define SERVING_GRPC_GRPC_SERVER_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serving/net/http2/rpc_call.h"
#include "serving/net/io_threads.h"
#include "serving/net/memory_budget.h"
#include "serving/net/tls.h"

namespace tfipu::serving {

struct GrpcServerOptions {
  std::string host = "0.0.0.0";
  // TCP port, 0 for one that the system chooses; nullopt: no TCP. Plain text, or TLS when `tls` is set.
  std::optional<int> port;
  // Path of a Unix-domain socket to listen on beside TCP, in plain text; empty: none. A socket that a dead
  // server left there is replaced.
  std::string unix_socket_path;
  std::optional<net::TlsSettings> tls;
  // "key=value,key=value": gRPC channel arguments. These have an effect, others are in ignored_arguments():
  // grpc.max_concurrent_streams, grpc.max_metadata_size, grpc.max_receive_message_length,
  // grpc.max_send_message_length, grpc.keepalive_time_ms, grpc.keepalive_timeout_ms,
  // grpc.max_connection_idle_ms, grpc.max_connection_age_ms, grpc.max_connection_age_grace_ms,
  // grpc.server_handshake_timeout_ms, grpc.default_compression_algorithm.
  std::string channel_arguments;
  // A larger request is refused with RESOURCE_EXHAUSTED as soon as its length is known.
  std::size_t max_request_bytes = 0x7fffffff;
  // Calls in flight in all; a further one is refused with RESOURCE_EXHAUSTED. 0: no bound.
  std::size_t max_calls = 0;
  // Connections open at once; a further one is closed at once. 0: as many as the system allows.
  std::size_t max_connections = 0;
  std::shared_ptr<net::IoThreads> threads;  // those of another server too; null: one a core, of its own
  // What a connection may hold of requests, what is made of them, and answers, and all of them together:
  // RESOURCE_EXHAUSTED for what comes on top. 0 and null: no bound. The budget outlives the server.
  std::size_t max_connection_bytes = 0;
  net::MemoryBudget* budget = nullptr;
  // Serves grpc.health.v1.Health. The whole server ("") is healthy while it runs; a service or model that was
  // never set is unknown.
  bool health_service = true;
};

// Listening from Start() until Shutdown() or destruction. Methods are called on the IO threads: one that
// takes long must answer from another thread. Replies are compressed when grpc.default_compression_algorithm
// says so and the client can read that; requests may come as deflate or gzip. Thread-safe.
class GrpcServer {
 public:
  // Null, and `*error` says why, when an option is wrong or an address cannot be listened on.
  static std::unique_ptr<GrpcServer> Start(GrpcServerOptions options,
                                           std::vector<net::http2::RpcMethod> methods, std::string* error);
  // Shutdown(0).
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  // The TCP port listened on; 0 without TCP.
  int port() const;

  // Keys of channel arguments that have no effect here.
  const std::vector<std::string>& ignored_arguments() const;

  // What the health service answers for a service; "" is the server as a whole. Watchers are told.
  void SetHealth(const std::string& service, bool serving);

  // Accepts no more calls, waits until those in flight have finished but no longer than `drain`, then cancels
  // the rest and waits until their methods have finished them. Later calls do nothing.
  void Shutdown(std::chrono::milliseconds drain);

 private:
  class Impl;
  explicit GrpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tfipu::serving

#endif  // SERVING_GRPC_GRPC_SERVER_H_
