#include "serving/json/float_run.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "serving/json/number.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tfipu::serving::json {
namespace float_run_internal {
namespace {

// Reads one number and the comma behind it. False, and nothing is changed, when it is not that simple.
[[gnu::always_inline]] inline bool ReadOne(const char** p, const char* end, float* out) {
  Number number;
  const char* const number_end = ScanNumber(*p, end, &number);
  if (number_end == nullptr || number_end == end || *number_end != ',') return false;
  if (!NumberValue(*p, number_end, number, out)) return false;
  *p = number_end + 1;
  if (*p != end && **p == ' ') ++*p;
  return true;
}

}  // namespace

const char* ReadPortable(const char* p, const char* end, float** out, float* out_end) {
  float* to = *out;
  while (to != out_end && ReadOne(&p, end, to)) ++to;
  *out = to;
  return p;
}

#if defined(__x86_64__)

#define TFIPU_AVX2 [[gnu::target("avx2,bmi,bmi2,popcnt")]]

bool HaveAvx2() {
  static const bool have = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
  return have;
}

namespace {

constexpr std::ptrdiff_t kBlock = 64;
// A number's characters that become its value, read at once.
constexpr std::ptrdiff_t kKept = 16;
// Numbers that are looked for at once, give or take a block's.
constexpr int kBatch = 256;
constexpr int kNumbersInBlock = 32;

// Loaded at kHead + kKept - n, n bytes at the beginning are set.
alignas(32) constexpr std::uint8_t kHead[2 * kKept] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
                                                       255, 255, 255, 255, 255, 0,   0,   0,   0,   0,   0,
                                                       0,   0,   0,   0,   0,   0,   0,   0,   0,   0};

// Sign bits of four floats, by which of them are negative.
constexpr std::uint32_t Sign(int which, int n) { return (which >> n & 1) != 0 ? 0x80000000u : 0u; }
#define TFIPU_SIGNS(n) \
  { Sign(n, 0), Sign(n, 1), Sign(n, 2), Sign(n, 3) }
alignas(16) constexpr std::uint32_t kSigns[16][4] = {
    TFIPU_SIGNS(0),  TFIPU_SIGNS(1),  TFIPU_SIGNS(2),  TFIPU_SIGNS(3), TFIPU_SIGNS(4),  TFIPU_SIGNS(5),
    TFIPU_SIGNS(6),  TFIPU_SIGNS(7),  TFIPU_SIGNS(8),  TFIPU_SIGNS(9), TFIPU_SIGNS(10), TFIPU_SIGNS(11),
    TFIPU_SIGNS(12), TFIPU_SIGNS(13), TFIPU_SIGNS(14), TFIPU_SIGNS(15)};
#undef TFIPU_SIGNS

// Numbers of one digit, a point and further digits, with or without a sign and a space before it, and a comma
// behind it. Places are counted from where the first may begin.
struct ShortNumbers {
  int count = 0;
  std::uint16_t digits[kBatch + 2 * kNumbersInBlock];  // the first digit of each
  std::uint16_t commas[kBatch + 2 * kNumbersInBlock];
  std::uint8_t negative[(kBatch + 2 * kNumbersInBlock) / 8 + 8] = {};  // a bit for each
};

// Which of 64 characters are what.
struct Marks {
  std::uint64_t commas, spaces, minuses, points, digits;
};
[[gnu::always_inline]] TFIPU_AVX2 inline std::uint64_t Mask(__m256i low, __m256i high) {
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(low)) |
         std::uint64_t{static_cast<std::uint32_t>(_mm256_movemask_epi8(high))} << 32;
}
[[gnu::always_inline]] TFIPU_AVX2 inline std::uint64_t Equal(__m256i low, __m256i high, char c) {
  const __m256i other = _mm256_set1_epi8(c);
  return Mask(_mm256_cmpeq_epi8(low, other), _mm256_cmpeq_epi8(high, other));
}
[[gnu::always_inline]] TFIPU_AVX2 inline Marks MarksOf(const char* p) {
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32));
  const __m256i zero = _mm256_set1_epi8('0');
  const __m256i nine = _mm256_set1_epi8(9);
  const __m256i low_digits = _mm256_sub_epi8(low, zero);
  const __m256i high_digits = _mm256_sub_epi8(high, zero);
  return {Equal(low, high, ','), Equal(low, high, ' '), Equal(low, high, '-'), Equal(low, high, '.'),
          Mask(_mm256_cmpeq_epi8(_mm256_min_epu8(low_digits, nine), low_digits),
               _mm256_cmpeq_epi8(_mm256_min_epu8(high_digits, nine), high_digits))};
}

// Writes the places of the bits that are set, and more behind them, which costs less than to know.
[[gnu::always_inline]] TFIPU_AVX2 inline void WritePlaces(std::uint64_t bits, int count, std::ptrdiff_t at,
                                                          std::uint16_t* places) {
  for (int i = 0; i < count; i += 4) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      places[i + k] = static_cast<std::uint16_t>(at + static_cast<std::ptrdiff_t>(_tzcnt_u64(bits)));
      bits &= bits - 1;
    }
  }
}

// The numbers from `p` on, as far as they are of that form, about kBatch at most.
TFIPU_AVX2 void FindShortNumbers(const char* p, const char* end, ShortNumbers* numbers) {
  int begun = 0;
  int ended = 0;
  std::uint64_t last_of_before = 1;  // of the block before: where a number may begin
  std::uint64_t space = 0, minus = 0, digit = 0, point = 0;
  bool more = true;
  for (std::ptrdiff_t at = 0; more && ended < kBatch && end - p - at >= kBlock + kKept; at += kBlock) {
    const Marks marks = MarksOf(p + at);
    // What follows what, bit by bit; the highest bit goes on in the next block.
    const auto next = [](std::uint64_t bits, std::uint64_t* carry) {
      const std::uint64_t moved = bits << 1 | *carry;
      *carry = bits >> 63;
      return moved;
    };
    const std::uint64_t begins = next(marks.commas, &last_of_before);
    const std::uint64_t spaces = begins & marks.spaces;
    const std::uint64_t first = (begins & ~marks.spaces) | next(spaces, &space);
    const std::uint64_t minuses = first & marks.minuses;
    const std::uint64_t negative = next(minuses, &minus);
    const std::uint64_t digits = (first & ~marks.minuses) | negative;
    const std::uint64_t points = next(digits, &digit);
    const std::uint64_t fractions = next(points, &point);
    const std::uint64_t wrong = ((digits | fractions) & ~marks.digits) | (points & ~marks.points) |
                                ~(marks.commas | spaces | minuses | points | marks.digits);
    std::uint64_t commas = marks.commas;
    more = wrong == 0;
    if (!more) commas &= (wrong & (0 - wrong)) - 1;
    const int begun_here = __builtin_popcountll(digits);
    const int ended_here = __builtin_popcountll(commas);
    if (begun_here > kNumbersInBlock) break;
    WritePlaces(digits, begun_here, at, numbers->digits + begun);
    WritePlaces(commas, ended_here, at, numbers->commas + ended);
    std::uint64_t signs;
    std::memcpy(&signs, numbers->negative + begun / 8, 8);
    signs |= _pext_u64(negative, digits) << (begun % 8);
    std::memcpy(numbers->negative + begun / 8, &signs, 8);
    begun += begun_here;
    ended += ended_here;
  }
  numbers->count = ended;
}

// The values of four of the numbers, from the i-th on, which is a multiple of four.
[[gnu::always_inline]] TFIPU_AVX2 inline void ReadFour(const char* p, const ShortNumbers& numbers, int i,
                                                       float* out) {
  __m128i text[4];
  __m128i kept[4];
  unsigned cut = 0;
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const int size = numbers.commas[i + k] - numbers.digits[i + k];
    cut |= static_cast<unsigned>(size > kKept) << k;
    text[k] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + numbers.digits[i + k]));
    kept[k] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kHead + kKept - std::min<int>(size, kKept)));
  }
  // The point is left out, and a zero put before the digit.
  const __m256i order = _mm256_setr_epi8(-1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,  //
                                         -1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m256i pair[2];  // values of 15 digits, twice in each half
#pragma GCC unroll 2
  for (int k = 0; k < 2; ++k) {
    const __m256i both = _mm256_set_m128i(text[2 * k + 1], text[2 * k]);
    __m256i digits = _mm256_and_si256(_mm256_sub_epi8(both, _mm256_set1_epi8('0')),
                                      _mm256_set_m128i(kept[2 * k + 1], kept[2 * k]));
    digits = _mm256_shuffle_epi8(digits, order);
    const __m256i twos = _mm256_maddubs_epi16(digits, _mm256_set1_epi16(0x010A));
    const __m256i fours = _mm256_madd_epi16(twos, _mm256_set1_epi32(0x00010064));
    const __m256i eights =
        _mm256_madd_epi16(_mm256_packus_epi32(fours, fours), _mm256_set1_epi32(0x00012710));
    pair[k] = _mm256_add_epi64(_mm256_mul_epu32(eights, _mm256_set1_epi64x(100000000)),
                               _mm256_srli_epi64(eights, 32));
  }
  const __m256i whole =
      _mm256_permute4x64_epi64(_mm256_unpacklo_epi64(pair[0], pair[1]), _MM_SHUFFLE(3, 1, 2, 0));
  // Below 2^52, such an integer is what is added to the bits of 2^52.
  const __m256i two_to_52 = _mm256_set1_epi64x(0x4330000000000000);
  const __m256d magnitude = _mm256_mul_pd(
      _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(whole, two_to_52)), _mm256_castsi256_pd(two_to_52)),
      _mm256_set1_pd(1e-14));
  const unsigned negative = numbers.negative[i / 8] >> (i % 8) & 15;
  _mm_storeu_ps(out, _mm_xor_ps(_mm256_cvtpd_ps(magnitude),
                                _mm_load_ps(reinterpret_cast<const float*>(kSigns[negative]))));
  // The scale and the product were rounded, each by at most half a unit of double's last place, and less than
  // 10^-14 was cut off, which for values of 10^-3 and more is less than 10^5 units. Rounding to float gives
  // the same as rounding the exact value would, unless the two may lie on different sides of the middle
  // between two floats.
  const __m256i from_middle =
      _mm256_sub_epi32(_mm256_and_si256(_mm256_castpd_si256(magnitude), _mm256_set1_epi64x(0x1FFFFFFF)),
                       _mm256_set1_epi64x(0x10000000));
  const __m256i near = _mm256_cmpgt_epi64(_mm256_set1_epi64x(1 << 17), _mm256_abs_epi32(from_middle));
  const auto small =
      static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(magnitude, _mm256_set1_pd(1e-3), _CMP_LT_OQ)));
  unsigned uncertain = static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(near))) | (small & cut);
  for (; uncertain != 0; uncertain &= uncertain - 1) {
    const int k = __builtin_ctz(uncertain);
    const char* number = p + numbers.digits[i + k] - (negative >> k & 1);
    ReadOne(&number, p + numbers.commas[i + k] + 1, out + k);
  }
}

}  // namespace

// In two passes, so that no number has to wait for the one before it to be read: where numbers of the usual
// form are, for 64 characters at a time, and what they are worth, four at a time.
TFIPU_AVX2 const char* ReadAvx2(const char* p, const char* end, float** out, float* out_end) {
  // Numbers to be read one by one where there are others.
  std::ptrdiff_t others = 1;
  while (*out != out_end) {
    ShortNumbers numbers;
    FindShortNumbers(p, end, &numbers);
    const int count = static_cast<int>(std::min<std::ptrdiff_t>(numbers.count, out_end - *out));
    int i = 0;
    for (; i + 4 <= count; i += 4) ReadFour(p, numbers, i, *out + i);
    if (i < count) {
      for (int k = count; k < i + 4; ++k) {
        numbers.digits[k] = numbers.digits[i];
        numbers.commas[k] = numbers.commas[i];
      }
      float last[4];
      ReadFour(p, numbers, i, last);
      std::copy(last, last + (count - i), *out + i);
    }
    *out += count;
    if (count > 0) p += numbers.commas[count - 1] + 1;
    others = count > 0 ? 1 : std::min<std::ptrdiff_t>(2 * others, 64);
    if (count >= kBatch) continue;
    for (std::ptrdiff_t k = std::min<std::ptrdiff_t>(others, out_end - *out); k > 0; --k) {
      if (p != end && *p == ' ') ++p;
      if (!ReadOne(&p, end, *out)) return p;
      ++*out;
    }
  }
  return p;
}

#else

bool HaveAvx2() { return false; }

const char* ReadAvx2(const char* p, const char* end, float** out, float* out_end) {
  return ReadPortable(p, end, out, out_end);
}

#endif

}  // namespace float_run_internal

const char* ReadFloatRun(const char* p, const char* end, float** out, float* out_end) {
  using namespace float_run_internal;
  return HaveAvx2() ? ReadAvx2(p, end, out, out_end) : ReadPortable(p, end, out, out_end);
}

}  // namespace tfipu::serving::json
