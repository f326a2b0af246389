#include "cc/base/sha256.h"

#include "cc/base/sha256_openssl.h"

namespace tfipu {

Sha256::Sha256() {
  static_assert(sizeof(state_) >= TFIPU_SHA256_STATE_SIZE);
  tfipu_sha256_init(state_.data());
}

void Sha256::Update(ConstBuffer bytes) { tfipu_sha256_update(state_.data(), bytes.data(), bytes.size()); }

std::string Sha256::Finish() {
  std::string digest(kSize, '\0');
  tfipu_sha256_final(state_.data(), reinterpret_cast<unsigned char*>(digest.data()));
  tfipu_sha256_init(state_.data());
  return digest;
}

std::string Sha256::Of(ConstBuffer bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.Finish();
}

}  // namespace tfipu
