/* The low-level functions, not EVP: EVP would bring megabytes of providers, a configuration file that is read
 * at run time and exit handlers into every process that loads this. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "cc/base/sha256_openssl.h"

#include <openssl/sha.h>

_Static_assert(sizeof(SHA256_CTX) <= TFIPU_SHA256_STATE_SIZE, "TFIPU_SHA256_STATE_SIZE is too small");

void tfipu_sha256_init(void* state) { SHA256_Init((SHA256_CTX*)state); }

void tfipu_sha256_update(void* state, const void* bytes, size_t size) {
  if (size != 0) SHA256_Update((SHA256_CTX*)state, bytes, size);
}

void tfipu_sha256_final(void* state, unsigned char digest[32]) { SHA256_Final(digest, (SHA256_CTX*)state); }
