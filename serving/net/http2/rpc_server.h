// The gRPC transport: listens, and hands every call to the method that is registered for its path.
#ifndef SERVING_NET_HTTP2_RPC_SERVER_H_
#define SERVING_NET_HTTP2_RPC_SERVER_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serving/net/http2/rpc_call.h"
#include "serving/net/http2/settings.h"
#include "serving/net/io_threads.h"
#include "serving/net/memory_budget.h"
#include "serving/net/tls.h"

namespace tfipu::serving::net::http2 {

struct RpcServerOptions {
  std::string host = "0.0.0.0";
  // TCP port, 0 for one that the system chooses; nullopt: no TCP. Plain text, or TLS when `tls` is set.
  std::optional<int> port;
  // Path of a Unix-domain socket to listen on beside TCP, in plain text; empty: none. A socket that a dead
  // server left there is replaced.
  std::string unix_socket_path;
  std::optional<TlsSettings> tls;
  Settings settings;
  // Connections open at once; a further one is closed at once. 0: as many as the system allows.
  std::size_t max_connections = 0;
  std::shared_ptr<IoThreads> threads;  // those of another server too; null: one a core, of its own
  MemoryBudget* budget = nullptr;      // outlives the server; null: no bound
};

// Listening from Start() until Shutdown() or destruction. Methods are called on the IO threads: one that
// takes long must answer from another thread. Thread-safe.
class RpcServer {
 public:
  // Null, and `*error` says why, when an option is wrong or an address cannot be listened on.
  static std::unique_ptr<RpcServer> Start(RpcServerOptions options, std::vector<RpcMethod> methods,
                                          std::string* error);
  // Shutdown(0).
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  // The TCP port listened on; 0 without TCP.
  int port() const;
  // What watches tell may have changed.
  void Notify();
  // Accepts no more calls, waits until those in flight have finished but no longer than `drain`, then cancels
  // the rest and waits until their methods have finished them. Later calls do nothing. Not from an IO thread.
  void Shutdown(std::chrono::milliseconds drain);

 private:
  class Impl;
  explicit RpcServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_RPC_SERVER_H_
