// Numbers as JSON writes them, read fast.
#ifndef SERVING_REST_JSON_NUMBER_H_
#define SERVING_REST_JSON_NUMBER_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace tfipu::serving {

// How a number is written: its digits as one integer, times a power of ten.
struct JsonNumber {
  std::uint64_t digits = 0;  // exact when `exact`
  int exponent = 0;
  bool negative = false;
  bool integer = false;  // no fraction, no exponent
  bool exact = false;    // at most 19 digits
};

namespace json_number_internal {

inline bool IsDigit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

inline std::uint64_t Load8(const char* p) {
  std::uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}

// Eight characters are all digits (little-endian or not).
inline bool Are8Digits(std::uint64_t word) {
  return ((word & 0xF0F0F0F0F0F0F0F0u) | (((word + 0x0606060606060606u) & 0xF0F0F0F0F0F0F0F0u) >> 4)) ==
         0x3333333333333333u;
}

// The value of eight digits, loaded from memory on a little-endian machine.
inline std::uint32_t Value8(std::uint64_t word) {
  word = (word & 0x0F0F0F0F0F0F0F0Fu) * 2561 >> 8;
  word = (word & 0x00FF00FF00FF00FFu) * 6553601 >> 16;
  return static_cast<std::uint32_t>((word & 0x0000FFFF0000FFFFu) * 42949672960001u >> 32);
}

// 10^0 to 10^22 are exact in double.
inline constexpr double kPowersOfTen[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                          1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

// The correctly rounded value of [begin, end), which ScanNumber() has accepted. False when it is beyond double's range.
bool SlowValue(const char* begin, const char* end, const JsonNumber& number, double* value);
bool SlowValue(const char* begin, const char* end, const JsonNumber& number, float* value);

}  // namespace json_number_internal

// Scans one number of RFC 8259's grammar. Returns where it ends, or nullptr when there is none at `p`.
inline const char* ScanNumber(const char* p, const char* end, JsonNumber* number) {
  namespace internal = json_number_internal;
  *number = JsonNumber();
  if (p != end && *p == '-') {
    number->negative = true;
    ++p;
  }
  if (p == end || !internal::IsDigit(*p)) return nullptr;
  std::uint64_t digits = 0;
  std::ptrdiff_t count = 0;
  if (*p == '0') {
    ++p;
    if (p != end && internal::IsDigit(*p)) return nullptr;
  } else {
    const char* start = p;
    do {
      digits = digits * 10 + static_cast<unsigned>(*p++ - '0');
    } while (p != end && internal::IsDigit(*p));
    count = p - start;
  }
  number->integer = true;
  int exponent = 0;
  if (p != end && *p == '.') {
    number->integer = false;
    const char* start = ++p;
    while (end - p >= 8) {
      const std::uint64_t word = internal::Load8(p);
      if (!internal::Are8Digits(word)) break;
      digits = digits * 100000000u + internal::Value8(word);
      p += 8;
    }
    while (p != end && internal::IsDigit(*p)) digits = digits * 10 + static_cast<unsigned>(*p++ - '0');
    const std::ptrdiff_t fraction = p - start;
    if (fraction == 0) return nullptr;
    count += fraction;
    exponent = fraction < 1000000000 ? -static_cast<int>(fraction) : -1000000000;
  }
  if (p != end && (*p == 'e' || *p == 'E')) {
    number->integer = false;
    ++p;
    bool negative = false;
    if (p != end && (*p == '-' || *p == '+')) negative = *p++ == '-';
    if (p == end || !internal::IsDigit(*p)) return nullptr;
    int written = 0;
    do {
      if (written < 100000000) written = written * 10 + (*p - '0');
      ++p;
    } while (p != end && internal::IsDigit(*p));
    exponent += negative ? -written : written;
  }
  number->digits = digits;
  number->exponent = exponent;
  number->exact = count <= 19;
  return p;
}

// The value of the number in [begin, end), correctly rounded. Float: what lies beyond float's range is infinite. False when it is
// beyond double's range.
inline bool NumberValue(const char* begin, const char* end, const JsonNumber& number, double* value) {
  namespace internal = json_number_internal;
  if (!number.exact || number.digits > (std::uint64_t{1} << 53) || number.exponent < -22 || number.exponent > 22) {
    return internal::SlowValue(begin, end, number, value);
  }
  double magnitude = static_cast<double>(number.digits);
  if (number.exponent < 0) {
    magnitude /= internal::kPowersOfTen[-number.exponent];
  } else {
    magnitude *= internal::kPowersOfTen[number.exponent];
  }
  *value = number.negative ? -magnitude : magnitude;
  return true;
}

inline bool NumberValue(const char* begin, const char* end, const JsonNumber& number, float* value) {
  namespace internal = json_number_internal;
  if (!number.exact || number.exponent < -22 || number.exponent > 18) {
    return internal::SlowValue(begin, end, number, value);
  }
  double magnitude = static_cast<double>(number.digits);
  if (number.exponent < 0) {
    magnitude /= internal::kPowersOfTen[-number.exponent];
  } else {
    magnitude *= internal::kPowersOfTen[number.exponent];
  }
  // Two roundings, each by at most half a unit of double's last place. Rounding to float gives the same as rounding the exact
  // value would, unless the two may lie on different sides of the middle between two floats.
  std::uint64_t bits;
  std::memcpy(&bits, &magnitude, 8);
  if (((bits + 4) & 0x1FFFFFFFu) - 0x10000000u <= 8) return internal::SlowValue(begin, end, number, value);
  const float rounded = static_cast<float>(magnitude);
  *value = number.negative ? -rounded : rounded;
  return true;
}

}  // namespace tfipu::serving

#endif  // SERVING_REST_JSON_NUMBER_H_
