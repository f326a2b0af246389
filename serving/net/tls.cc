#include "serving/net/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <new>

namespace tfipu::serving::net {
namespace {

std::string LastError() {
  char text[256] = "unknown error";
  const unsigned long code = ERR_get_error();
  if (code != 0) ERR_error_string_n(code, text, sizeof(text));
  ERR_clear_error();
  return text;
}

struct BioDeleter {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
std::unique_ptr<BIO, BioDeleter> Pem(const std::string& text) {
  return std::unique_ptr<BIO, BioDeleter>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

bool UseCertificates(SSL_CTX* context, const std::string& pem) {
  auto bio = Pem(pem);
  X509* leaf = PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr);
  if (leaf == nullptr) return false;
  bool ok = SSL_CTX_use_certificate(context, leaf) == 1;
  X509_free(leaf);
  while (ok) {
    X509* issuer = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr);
    if (issuer == nullptr) break;
    ok = SSL_CTX_add0_chain_cert(context, issuer) == 1;
    if (!ok) X509_free(issuer);
  }
  ERR_clear_error();
  return ok;
}

bool UseKey(SSL_CTX* context, const std::string& pem) {
  EVP_PKEY* key = PEM_read_bio_PrivateKey(Pem(pem).get(), nullptr, nullptr, nullptr);
  if (key == nullptr) return false;
  const bool ok = SSL_CTX_use_PrivateKey(context, key) == 1;
  EVP_PKEY_free(key);
  return ok;
}

// Authorities for client certificates; the number of them.
int AddAuthorities(SSL_CTX* context, const std::string& pem) {
  auto bio = Pem(pem);
  int count = 0;
  while (X509* authority = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority) == 1) {
      SSL_CTX_add_client_CA(context, authority);
      ++count;
    }
    X509_free(authority);
  }
  ERR_clear_error();
  return count;
}

int ChooseProtocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                   unsigned int in_size, void* protocol) {
  // What is chosen outlives this call.
  const auto& ours = *static_cast<const std::string*>(protocol);
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, reinterpret_cast<const unsigned char*>(ours.data()),
                            static_cast<unsigned>(ours.size()), in, in_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

std::unique_ptr<TlsContext> TlsContext::Create(const TlsSettings& settings, const std::string& protocol,
                                               std::string* error) {
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  if (context == nullptr) {
    *error = "Could not set up TLS: " + LastError();
    return nullptr;
  }
  std::unique_ptr<TlsContext> made(new TlsContext(context, protocol));
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context,
                      SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  // Idle connections are many; each would keep 32 KiB.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>("tfipu"), 5);
  SSL_CTX_set_alpn_select_cb(context, ChooseProtocol, const_cast<std::string*>(&made->protocol_));
  if (!UseCertificates(context, settings.server_cert)) {
    *error = "server_cert is not a PEM certificate: " + LastError();
    return nullptr;
  }
  if (!UseKey(context, settings.server_key)) {
    *error = "server_key is not a PEM private key that fits server_cert: " + LastError();
    return nullptr;
  }
  if (SSL_CTX_check_private_key(context) != 1) {
    *error = "server_key does not belong to server_cert: " + LastError();
    return nullptr;
  }
  if (settings.custom_ca.empty()) {
    SSL_CTX_set_default_verify_paths(context);
  } else if (AddAuthorities(context, settings.custom_ca) == 0) {
    *error = "custom_ca does not hold a PEM certificate";
    return nullptr;
  }
  if (settings.client_verify) {
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  return made;
}

TlsContext::TlsContext(ssl_ctx_st* context, const std::string& protocol)
    : context_(context), protocol_(static_cast<char>(protocol.size()) + protocol) {}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

TlsSession::TlsSession(const TlsContext& context) : ssl_(SSL_new(context.get())) {
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  if (ssl_ == nullptr || in == nullptr || out == nullptr) {
    BIO_free(in);
    BIO_free(out);
    SSL_free(ssl_);
    throw std::bad_alloc();
  }
  SSL_set_bio(ssl_, in, out);
  SSL_set_accept_state(ssl_);
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

bool TlsSession::Feed(std::string_view data) {
  while (!data.empty()) {
    const int taken = BIO_write(SSL_get_rbio(ssl_), data.data(),
                                static_cast<int>(std::min<std::size_t>(data.size(), INT_MAX)));
    if (taken <= 0) return false;
    data.remove_prefix(taken);
  }
  return true;
}

int TlsSession::Read(char* buffer, int size) {
  // Errors of other connections on this thread must not be taken for this one's.
  ERR_clear_error();
  const int got = SSL_read(ssl_, buffer, size);
  if (got > 0) return got;
  const int reason = SSL_get_error(ssl_, got);
  ERR_clear_error();
  return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

bool TlsSession::Write(std::string_view data) {
  ERR_clear_error();
  while (!data.empty()) {
    const int size = static_cast<int>(std::min<std::size_t>(data.size(), INT_MAX));
    const int written = SSL_write(ssl_, data.data(), size);
    if (written <= 0) return false;
    data.remove_prefix(written);
  }
  return true;
}

void TlsSession::End() {
  ERR_clear_error();
  if (handshake_done()) SSL_shutdown(ssl_);
  ERR_clear_error();
}

bool TlsSession::handshake_done() const { return SSL_is_init_finished(ssl_) == 1; }

void TlsSession::TakeOutput(std::string* out) {
  BIO* bio = SSL_get_wbio(ssl_);
  const std::size_t pending = BIO_ctrl_pending(bio);
  if (pending == 0) return;
  const std::size_t had = out->size();
  out->resize(had + pending);
  const int got = BIO_read(bio, out->data() + had, static_cast<int>(pending));
  out->resize(had + std::max(got, 0));
}

}  // namespace tfipu::serving::net
