// The HTTP/1.x transport: listens, reads requests whole, gives them to a handler, writes its answers.
#ifndef SERVING_REST_HTTP_SERVER_H_
#define SERVING_REST_HTTP_SERVER_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "serving/rest/http.h"

namespace tfipu::serving {

// Every bound has a default that suits a public port. What is over a bound is answered with the status named
// here and the connection closed; nothing is allocated for it.
struct HttpServerOptions {
  std::string address = "0.0.0.0";          // numeric IPv4 or IPv6; "::" listens on both
  int port = 0;                             // 0: the system picks one, see HttpServer::port()
  int threads = 0;                          // IO threads; 0: one for each core
  std::chrono::microseconds spin{0};        // see EventWait
  int max_connections = 10000;              // 503 for what comes on top
  std::size_t max_header_bytes = 32 << 10;  // request line and header fields: 431
  std::size_t max_body_bytes = 256 << 20;   // as sent and after decompression: 413
  std::chrono::milliseconds header_timeout{
      20000};  // from a request's first byte to the end of its header: 408
  std::chrono::milliseconds stall_timeout{
      30000};  // no byte of a body came: 408; no byte of an answer was taken: closed
  std::chrono::milliseconds idle_timeout{120000};  // between requests; closed without an answer
  // While the handler has a request: 504, and what the handler answers later reaches nobody. 0: no limit.
  std::chrono::milliseconds call_timeout{0};
  std::chrono::milliseconds drain_timeout{30000};  // see HttpServer::Shutdown()
  std::size_t min_gzip_bytes = 1024;               // shorter answers are never compressed
};

// HTTP/1.0 and 1.1 with keep-alive, pipelining, chunked and expect-continue bodies, HEAD, gzip both ways.
//
// Start() begins to listen and starts the IO threads. Each connection belongs to one IO thread, which calls
// the handler for its requests, one at a time and in order; requests of different connections come on several
// threads at once. An exchange may be answered from any thread. A handler must answer every exchange, whether
// its client is still there or not; one that takes longer than `call_timeout` is told so by
// HttpExchange::cancelled(). Errors that the transport finds itself are answered as the handler's are:
// {"error": "..."}.
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

  // InvalidArgument for a bad address, Unavailable when the port cannot be had. Once.
  absl::Status Start();

  // The port it listens on, after Start().
  int port() const;

  // May be called from any thread but the handler's, any number of times.
  void Shutdown();

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace tfipu::serving

#endif  // SERVING_REST_HTTP_SERVER_H_
