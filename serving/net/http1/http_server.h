// The HTTP/1.x transport: listens, reads requests whole, gives them to a handler, writes its answers.
#ifndef SERVING_NET_HTTP1_HTTP_SERVER_H_
#define SERVING_NET_HTTP1_HTTP_SERVER_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "serving/net/http1/http_exchange.h"
#include "serving/net/io_threads.h"
#include "serving/net/memory_budget.h"
#include "serving/net/tls.h"

namespace tfipu::serving::net::http1 {

// Every bound has a default that suits a public port. What is over a bound is answered with the status named
// here and the connection closed; nothing is allocated for it.
struct HttpServerOptions {
  std::string address = "0.0.0.0";          // numeric IPv4 or IPv6, or a host's name; "::" listens on both
  int port = 0;                             // 0: the system picks one, see HttpServer::port()
  std::shared_ptr<IoThreads> threads;       // those of another server too; null: own_threads of its own
  int own_threads = 0;                      // 0: one for each core
  std::optional<TlsSettings> tls;           // nullopt: plain text
  int max_connections = 10000;              // 503 for what comes on top
  std::size_t max_header_bytes = 32 << 10;  // request line and header fields: 431
  std::size_t max_body_bytes = 256 << 20;   // as sent and after decompression: 413
  // What a connection may hold of requests, what is made of them, and answers, and all of them together: 503
  // with Retry-After for what comes on top. 0 and null: no bound. The budget outlives the server.
  std::size_t max_connection_bytes = 0;
  MemoryBudget* budget = nullptr;
  // From a connection's first byte, or a request's, to the end of TLS's handshake, or its header: 408.
  std::chrono::milliseconds header_timeout{20000};
  std::chrono::milliseconds stall_timeout{
      30000};  // no byte of a body came: 408; no byte of an answer was taken: closed
  std::chrono::milliseconds idle_timeout{120000};  // between requests; closed without an answer
  // While the handler has a request: 504, and what the handler answers later reaches nobody. 0: no limit.
  std::chrono::milliseconds call_timeout{0};
  std::chrono::milliseconds drain_timeout{30000};  // see HttpServer::Shutdown()
  std::size_t min_gzip_bytes = 1024;               // shorter answers are never compressed
};

// HTTP/1.0 and 1.1 with keep-alive, pipelining, chunked and expect-continue bodies, HEAD, gzip both ways,
// TLS.
//
// Start() begins to listen. Each connection belongs to one IO thread, which calls the handler for its
// requests, one at a time and in order; requests of different connections come on several threads at once. An
// exchange may be answered from any thread. A handler must answer every exchange, whether its client is still
// there or not; one that takes longer than `call_timeout` is told so by HttpExchange::cancelled(). Errors
// that the transport finds itself are answered as the handler's are: {"error": "..."}. Bodies are
// decompressed, and large answers compressed, by the IO threads' workers.
//
// Shutdown() stops listening, closes idle connections, lets requests that have begun to arrive be read and
// answered (with "Connection: close"), and returns when all connections are closed. After `drain_timeout` it
// waits only for exchanges that the handler holds, and drops the rest.
class HttpServer {
 public:
  HttpServer(HttpServerOptions options, HttpHandler handler);
  // Shuts down.
  ~HttpServer();

  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // False, and `*error` says why, for a bad address or certificate, or when the port cannot be had. Once.
  bool Start(std::string* error);

  // The port it listens on, after Start().
  int port() const;

  // May be called from any thread but the IO threads, any number of times.
  void Shutdown();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tfipu::serving::net::http1

#endif  // SERVING_NET_HTTP1_HTTP_SERVER_H_
