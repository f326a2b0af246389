// Memory that requests ask for and do not bring.
#ifndef SERVING_API_REPEATED_BYTES_H_
#define SERVING_API_REPEATED_BYTES_H_

#include <cstddef>
#include <utility>

#include "absl/status/status.h"

namespace tfipu::serving {

// Bytes of one request that may come from repeating: the last of too few values of a tensor, as TensorFlow
// does, or the context of examples in each of them. A request of 30 bytes can ask for as much.
inline constexpr std::size_t kMaxRepeatedBytes = std::size_t{1} << 28;
// And of all requests that are being answered.
inline constexpr std::size_t kMaxRepeatedBytesInAll = std::size_t{1} << 30;

// A request's share of kMaxRepeatedBytesInAll, given back when it goes. Thread-compatible; the count behind
// it is atomic.
class RepeatedBytes {
 public:
  RepeatedBytes() = default;
  ~RepeatedBytes() { Release(); }
  RepeatedBytes(RepeatedBytes&& other) noexcept : bytes_(std::exchange(other.bytes_, 0)) {}
  RepeatedBytes& operator=(RepeatedBytes&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  // Adds to the share; ResourceExhausted when others have the rest.
  absl::Status Take(std::size_t bytes);

 private:
  void Release();

  std::size_t bytes_ = 0;
};

}  // namespace tfipu::serving

#endif  // SERVING_API_REPEATED_BYTES_H_
