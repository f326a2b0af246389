/* The C border to OpenSSL's SHA-256. The build seals the object behind it together with the few objects of
 * Debian's libcrypto.a that it needs, so that no OpenSSL name leaves it and none is taken from TensorFlow's
 * BoringSSL, which exports the same names with other layouts. */
#ifndef CC_BASE_SHA256_OPENSSL_H_
#define CC_BASE_SHA256_OPENSSL_H_

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TFIPU_SHA256_STATE_SIZE 112 /* sizeof(SHA256_CTX), checked where it is known */

void tfipu_sha256_init(void* state);
void tfipu_sha256_update(void* state, const void* bytes, size_t size);
void tfipu_sha256_final(void* state, unsigned char digest[32]);

#ifdef __cplusplus
}
#endif

#endif /* CC_BASE_SHA256_OPENSSL_H_ */
