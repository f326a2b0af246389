// TLS on a server's connections, without sockets: bytes in, bytes out.
#ifndef SERVING_GRPC_TLS_H_
#define SERVING_GRPC_TLS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "serving/grpc/grpc_server.h"

struct ssl_ctx_st;
struct ssl_st;

namespace tfipu::serving {

// Keys, certificates and rules. Thread-safe.
class TlsContext {
 public:
  // Null, and `*error` says why, when a PEM text is wrong or key and certificate do not belong together.
  static std::unique_ptr<TlsContext> Create(const GrpcTls& options, std::string* error);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  ssl_ctx_st* get() const { return context_; }

 private:
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
  ssl_ctx_st* const context_;
};

// One connection's TLS. Used by one thread at a time.
class TlsSession {
 public:
  explicit TlsSession(const TlsContext& context);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Takes bytes from the network. False when there is no memory for them.
  bool Feed(std::string_view data);
  // Decrypts into a buffer: the number of bytes, 0 when more must come from the network first, negative when
  // the connection is at its end or broken. Brings the handshake forward.
  int Read(char* buffer, int size);
  // Encrypts. False when the handshake is not done or the connection is broken.
  bool Write(std::string_view data);
  bool handshake_done() const;
  // Appends what is to be sent to the network.
  void TakeOutput(std::string* out);

 private:
  ssl_st* const ssl_;
};

}  // namespace tfipu::serving

#endif  // SERVING_GRPC_TLS_H_
