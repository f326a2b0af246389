// Views of the memory that passes between callers, engines and devices.
#ifndef CC_BASE_BUFFER_H_
#define CC_BASE_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "absl/types/span.h"

namespace tfipu {

// A tensor's bytes, owned by somebody else.
using ConstBuffer = absl::Span<const std::byte>;
using MutableBuffer = absl::Span<std::byte>;

// Compiled code reads and writes whole vectors: what it touches starts at a multiple of this many bytes.
inline constexpr std::size_t kBufferAlignment = 64;

inline bool IsAligned(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % kBufferAlignment == 0;
}

// Owned, aligned, uninitialised memory; std::bad_alloc when there is none. Movable; not thread-safe.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size) : size_(size) {
    // aligned_alloc wants a multiple of the alignment, and a null pointer is no buffer even when size is 0.
    const std::size_t rounded = (size + kBufferAlignment) / kBufferAlignment * kBufferAlignment;
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(kBufferAlignment, rounded)));
    if (data_ == nullptr) throw std::bad_alloc();
  }

  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  MutableBuffer span() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace tfipu

#endif  // CC_BASE_BUFFER_H_
