// TLS on a server's connections, without sockets: bytes in, bytes out.
#ifndef SERVING_NET_TLS_H_
#define SERVING_NET_TLS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct ssl_ctx_st;
struct ssl_st;

namespace tfipu::serving::net {

// Contents of PEM files.
struct TlsSettings {
  std::string server_key;
  std::string server_cert;
  std::string custom_ca;       // who may sign client certificates; empty: the system's authorities
  bool client_verify = false;  // clients must show a certificate
};

// Keys, certificates and rules. Thread-safe.
class TlsContext {
 public:
  // Null, and `*error` says why, when a PEM text is wrong or key and certificate do not belong together.
  // `protocol` is the one that is agreed by ALPN ("h2"); a client that offers only others is refused, one
  // that offers none is not.
  static std::unique_ptr<TlsContext> Create(const TlsSettings& settings, const std::string& protocol,
                                            std::string* error);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  ssl_ctx_st* get() const { return context_; }

 private:
  TlsContext(ssl_ctx_st* context, const std::string& protocol);
  ssl_ctx_st* const context_;
  const std::string protocol_;  // with its length in front
};

// One connection's TLS. Used by one thread at a time.
class TlsSession {
 public:
  // Throws std::bad_alloc when memory is short.
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
  // Says that nothing more will be written.
  void End();
  // Appends what is to be sent to the network.
  void TakeOutput(std::string* out);

 private:
  ssl_st* const ssl_;
};

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_TLS_H_
