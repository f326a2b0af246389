// The border between the HTTP transport and what answers its requests. Plain C++.
#ifndef SERVING_NET_HTTP1_HTTP_EXCHANGE_H_
#define SERVING_NET_HTTP1_HTTP_EXCHANGE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tfipu::serving::net::http1 {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// One request in flight, owned by the transport, which gives it to the handler and keeps it until Respond().
class HttpExchange {
 public:
  virtual std::string_view method() const = 0;                       // "GET", "POST", "OPTIONS", ...
  virtual std::string_view target() const = 0;                       // as sent: path and query, not unescaped
  virtual std::string_view header(std::string_view name) const = 0;  // case-insensitive; empty when absent
  // The whole body, with transfer and content encodings undone. Valid until Respond().
  virtual std::string_view body() const = 0;
  // Whether reading the body takes longer than a thread that others wait for has.
  bool large() const { return body().size() > kSmallBody; }
  // The body is not needed any more.
  virtual void ReleaseBody() {}
  // Calls `callback` when the loop whose thread this is has read all that was ready, before answers are sent.
  // False, and nothing is called, on another thread.
  virtual bool AtEndOfRound(std::function<void()> callback) { return false; }
  // Counts further bytes, that are about to be made of the request, against the bounds of what a connection
  // may make the server hold, until the exchange is answered. False when that is too much: answer with 503
  // then. One thread at a time.
  virtual bool Hold(std::size_t bytes) { return true; }
  // The connection is gone, or the client was told that the call takes too long: the answer reaches nobody.
  // May be asked from any thread.
  virtual bool cancelled() const = 0;
  // Answers. Exactly once, from any thread. The exchange is gone after it.
  virtual void Respond(int status, HttpHeaders headers, std::string body) = 0;

  static constexpr std::size_t kSmallBody = 64 << 10;

 protected:
  ~HttpExchange() = default;
};

// Called on an IO thread; may respond before it returns, or later from any thread. When it throws, it has not
// responded and will not: the transport answers with 503.
using HttpHandler = std::function<void(HttpExchange*)>;

}  // namespace tfipu::serving::net::http1

#endif  // SERVING_NET_HTTP1_HTTP_EXCHANGE_H_
