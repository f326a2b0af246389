// SHA-256, at the speed of the CPU's SHA instructions where it has them.
#ifndef CC_BASE_SHA256_H_
#define CC_BASE_SHA256_H_

#include <array>
#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "cc/base/buffer.h"

namespace tfipu {

// Takes bytes piece by piece. Never fails. Not thread-safe; usable again after Finish().
class Sha256 {
 public:
  static constexpr std::size_t kSize = 32;

  Sha256();
  void Update(ConstBuffer bytes);
  void Update(absl::string_view bytes) { Update(AsBytes(bytes)); }
  // The 32 bytes of the digest of everything since construction or the last Finish().
  std::string Finish();

  static std::string Of(ConstBuffer bytes);
  static std::string Of(absl::string_view bytes) { return Of(AsBytes(bytes)); }

 private:
  static ConstBuffer AsBytes(absl::string_view bytes) {
    return {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
  }
  alignas(16) std::array<std::byte, 128> state_;
};

}  // namespace tfipu

#endif  // CC_BASE_SHA256_H_
