#include "cc/device/emulator/floating_point.h"

#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace tfipu {
namespace {

// What a scan over results found.
struct Found {
  bool nan = false;
  bool infinity = false;
};

// `Bits` is the unsigned type of the number's size; the exponent's bits are all set in NaNs and infinities.
template <typename Bits>
void Scan(MutableBuffer buffer, Bits exponent, Bits mantissa, Found& found) {
  for (std::size_t at = 0; at + sizeof(Bits) <= buffer.size(); at += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, buffer.data() + at, sizeof(Bits));
    if ((bits & exponent) != exponent) continue;
    ((bits & mantissa) != 0 ? found.nan : found.infinity) = true;
  }
}

Found Scan(absl::Span<const MutableBuffer> results, absl::Span<const ElementType> types) {
  Found found;
  for (std::size_t i = 0; i < results.size(); ++i) {
    switch (types[i]) {
      case FLOAT32:
      case COMPLEX64:
        Scan<std::uint32_t>(results[i], 0x7f800000, 0x007fffff, found);
        break;
      case FLOAT64:
      case COMPLEX128:
        Scan<std::uint64_t>(results[i], 0x7ff0000000000000, 0x000fffffffffffff, found);
        break;
      case FLOAT16:
        Scan<std::uint16_t>(results[i], 0x7c00, 0x03ff, found);
        break;
      case BFLOAT16:
        Scan<std::uint16_t>(results[i], 0x7f80, 0x007f, found);
        break;
      default:
        break;
    }
  }
  return found;
}

}  // namespace

#if defined(__SSE__)
constexpr unsigned int kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;

ScopedFlushDenormals::ScopedFlushDenormals() : saved_(_mm_getcsr()) {
  _mm_setcsr(saved_ | kFlushToZero | kDenormalsAreZero);
}

ScopedFlushDenormals::~ScopedFlushDenormals() {
  constexpr unsigned int kMode = kFlushToZero | kDenormalsAreZero;
  _mm_setcsr((_mm_getcsr() & ~kMode) | (saved_ & kMode));
}
#else
ScopedFlushDenormals::ScopedFlushDenormals() : saved_(0) {}
ScopedFlushDenormals::~ScopedFlushDenormals() {}
#endif

ExceptionWatch::ExceptionWatch(const FloatingPointBehaviour& behaviour) : behaviour_(behaviour) {
  if (behaviour.inv()) mask_ |= FE_INVALID;
  if (behaviour.div0()) mask_ |= FE_DIVBYZERO;
  if (behaviour.oflo()) mask_ |= FE_OVERFLOW;
}

void ExceptionWatch::Clear() const { std::feclearexcept(FE_ALL_EXCEPT); }

std::string ExceptionWatch::Raised(absl::Span<const MutableBuffer> results,
                                   absl::Span<const ElementType> types) const {
  const int raised = std::fetestexcept(mask_);
  if (raised == 0) return "";
  const Found found = Scan(results, types);
  if ((raised & FE_DIVBYZERO) != 0 && (found.infinity || found.nan)) return "division by zero (div0)";
  if ((raised & FE_OVERFLOW) != 0 && (found.infinity || found.nan)) return "overflow (oflo)";
  if ((raised & FE_INVALID) != 0 && found.nan) return "invalid operation (inv)";
  return "";
}

}  // namespace tfipu
