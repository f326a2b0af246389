#include "serving/rest/json_float_run.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "serving/rest/json_number.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tfipu::serving {
namespace json_float_run_internal {
namespace {

// Reads one number and the comma behind it. False, and nothing is changed, when it is not that simple.
[[gnu::always_inline]] inline bool ReadOne(const char** p, const char* end, float* out) {
  JsonNumber number;
  const char* const number_end = ScanNumber(*p, end, &number);
  if (number_end == nullptr || number_end == end || *number_end != ',') return false;
  if (!NumberValue(*p, number_end, number, out)) return false;
  *p = number_end + 1;
  if (*p != end && **p == ' ') ++*p;
  return true;
}

}  // namespace

const char* ReadPortable(const char*, const char* p, const char* end, float** out, float* out_end) {
  float* to = *out;
  while (to != out_end && ReadOne(&p, end, to)) ++to;
  *out = to;
  return p;
}

#if defined(__x86_64__)

#define TFIPU_AVX2 [[gnu::target("avx2,bmi,popcnt")]]

bool HaveAvx2() {
  static const bool have =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("popcnt");
  return have;
}

namespace {

// Loaded at kTail + n, n bytes at the end are set.
alignas(32) constexpr std::uint8_t kTail[32] = {0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
                                                0,   0,   0,   0,   0,   255, 255, 255, 255, 255, 255,
                                                255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

// The number that 16 digit values make.
TFIPU_AVX2 inline std::int64_t Value16(__m128i digits) {
  const __m128i twos = _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010A));
  const __m128i fours = _mm_madd_epi16(twos, _mm_set1_epi32(0x00010064));
  const __m128i eights = _mm_madd_epi16(_mm_packus_epi32(fours, fours), _mm_set1_epi32(0x00012710));
  const auto both = static_cast<std::uint64_t>(_mm_cvtsi128_si64(eights));
  return static_cast<std::int64_t>((both & 0xFFFFFFFFu) * 100000000u + (both >> 32));
}

// Which of 64 characters are commas, and which are none of those that plain numbers and what is between them
// consist of.
struct Marks {
  std::uint64_t commas, others;
};
TFIPU_AVX2 inline Marks MarksOf(const char* p) {
  const __m256i comma = _mm256_set1_epi8(',');
  const __m256i space = _mm256_set1_epi8(' ');
  const __m256i last = _mm256_set1_epi8('9' - ',');
  Marks marks{0, 0};
  for (int half = 0; half < 2; ++half) {
    const __m256i text = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * half));
    const __m256i is_comma = _mm256_cmpeq_epi8(text, comma);
    const __m256i from_comma = _mm256_sub_epi8(text, comma);  // , - . / and the digits are 0 to 13
    const __m256i known = _mm256_or_si256(_mm256_cmpeq_epi8(_mm256_min_epu8(from_comma, last), from_comma),
                                          _mm256_cmpeq_epi8(text, space));
    marks.commas |= std::uint64_t{static_cast<std::uint32_t>(_mm256_movemask_epi8(is_comma))} << (32 * half);
    marks.others |= std::uint64_t{static_cast<std::uint32_t>(~_mm256_movemask_epi8(known))} << (32 * half);
  }
  return marks;
}

// Values of the last `count` of 16 characters, zeros before them. False if one is no digit.
TFIPU_AVX2 inline bool Digits16(const char* p, std::ptrdiff_t count, __m128i* digits) {
  const __m128i text = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m128i mask = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kTail + count));
  *digits = _mm_and_si128(_mm_sub_epi8(text, _mm_set1_epi8('0')), mask);
  const __m128i nine = _mm_set1_epi8(9);
  return _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(*digits, nine), nine)) == 0xFFFF;
}

// The number in [p, comma), if it has one digit before the point. Reads 16 characters before `p`.
TFIPU_AVX2 inline bool ShortNumber(const char* p, const char* comma, float* out) {
  const bool negative = *p == '-';
  p += negative;
  const auto before_point = static_cast<unsigned>(p[0] - '0');
  const std::ptrdiff_t fraction = comma - p - 2;
  // What is behind the sixteenth digit changes the value by 10^-16 at most: little, if it does not begin with
  // zeros.
  const std::ptrdiff_t kept = std::min<std::ptrdiff_t>(fraction, 16);
  if ((fraction < 1) | (fraction > 32) | (before_point > 9) | (p[1] != '.')) return false;
  __m128i digits;
  __m128i rest;
  const bool plain = Digits16(p + 2 + kept - 16, kept, &digits) && Digits16(comma - 16, kept, &rest);
  if (!plain || ((fraction > 16) & (before_point == 0) & (p[2] == '0'))) return false;
  const double magnitude = static_cast<double>(static_cast<int>(before_point)) +
                           static_cast<double>(Value16(digits)) * json_number_internal::kScales[22 - kept];
  // Four roundings and what was cut off make less than 16 units of double's last place. See NumberValue().
  std::uint64_t bits;
  std::memcpy(&bits, &magnitude, 8);
  if (((bits + 16) & 0x1FFFFFFFu) - 0x10000000u <= 32) return false;
  const float rounded = static_cast<float>(magnitude);
  *out = negative ? -rounded : rounded;
  return true;
}

}  // namespace

// Two passes, so that no number has to wait for the one before it to be read: where the commas are, then what
// is between them.
TFIPU_AVX2 const char* ReadAvx2(const char* begin, const char* p, const char* end, float** out,
                                float* out_end) {
  constexpr std::ptrdiff_t kBlock = 64;
  constexpr std::ptrdiff_t kBehind = 16;
  constexpr int kBatch = 256;
  std::uint16_t commas[kBatch + 2 * kBlock];  // counted from `p`
  float* to = *out;
  while (to != out_end) {
    int count = 0;
    if (p - begin >= kBehind) {
      std::ptrdiff_t at = 0;
      bool ended = false;
      while (!ended && count < kBatch && end - p - at >= kBlock && at < 60000) {
        Marks marks = MarksOf(p + at);
        ended = marks.others != 0;
        if (ended) marks.commas &= (marks.others & (0 - marks.others)) - 1;
        const int found = __builtin_popcountll(marks.commas);
        // More than are there may be written, which costs less than to know.
        for (int i = 0; i < found; i += 4) {
          for (int k = 0; k < 4; ++k) {
            commas[count + i + k] =
                static_cast<std::uint16_t>(at + static_cast<std::ptrdiff_t>(_tzcnt_u64(marks.commas)));
            marks.commas &= marks.commas - 1;
          }
        }
        count += found;
        at += kBlock;
      }
    }
    if (count == 0) {
      if (!ReadOne(&p, end, to)) break;
      ++to;
      continue;
    }
    const char* const first = p;
    for (int i = 0; i < count && to != out_end; ++i) {
      const char* const comma = first + commas[i];
      if (ShortNumber(p, comma, to)) {
        p = comma + 1;
        if (p != end && *p == ' ') ++p;
      } else if (!ReadOne(&p, end, to)) {
        *out = to;
        return p;
      }
      ++to;
    }
  }
  *out = to;
  return p;
}

#else

bool HaveAvx2() { return false; }

const char* ReadAvx2(const char* begin, const char* p, const char* end, float** out, float* out_end) {
  return ReadPortable(begin, p, end, out, out_end);
}

#endif

}  // namespace json_float_run_internal

const char* ReadFloatRun(const char* begin, const char* p, const char* end, float** out, float* out_end) {
  using namespace json_float_run_internal;
  return HaveAvx2() ? ReadAvx2(begin, p, end, out, out_end) : ReadPortable(begin, p, end, out, out_end);
}

}  // namespace tfipu::serving
