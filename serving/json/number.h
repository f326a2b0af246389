// Numbers as JSON writes them, read fast.
#ifndef SERVING_JSON_NUMBER_H_
#define SERVING_JSON_NUMBER_H_

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace tfipu::serving::json {

// How a number is written: its digits as one integer, times a power of ten.
struct Number {
  std::uint64_t digits = 0;  // exact when `exact`
  int exponent = 0;
  bool negative = false;
  bool integer = false;  // no fraction, no exponent
  bool exact = false;    // at most 19 digits
};

namespace number_internal {

inline bool IsDigit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

inline std::uint64_t Load8(const char* p) {
  std::uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}

// How many of eight characters, from the first on, are digits. `values` gets what the digits stand for, one a
// byte.
inline int CountDigits(std::uint64_t word, std::uint64_t* values) {
  const std::uint64_t x = word ^ 0x3030303030303030u;
  *values = x;
  // Bytes above 9. What carries over from one disturbs only those behind it.
  const std::uint64_t other = ((x + 0x7676767676767676u) | x) & 0x8080808080808080u;
  return other == 0 ? 8 : __builtin_ctzll(other) >> 3;
}

// The number that eight digit values make, loaded from memory on a little-endian machine.
inline std::uint64_t Value8(std::uint64_t values) {
  values = (values * 10 + (values >> 8)) & 0x00FF00FF00FF00FFu;
  values = (values * 100 + (values >> 16)) & 0x0000FFFF0000FFFFu;
  return (values * 10000 + (values >> 32)) & 0xFFFFFFFFu;
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "Value8() and CountDigits() are for little-endian machines");

inline constexpr std::uint64_t kWholePowersOfTen[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};

// 10^0 to 10^22 are exact in double.
inline constexpr double kPowersOfTen[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                          1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                          1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

// 10^-22 to 10^18, each rounded to the nearest double.
inline constexpr double kScales[] = {
    1e-22, 1e-21, 1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9,
    1e-8,  1e-7,  1e-6,  1e-5,  1e-4,  1e-3,  1e-2,  1e-1,  1e0,   1e1,   1e2,   1e3,   1e4,   1e5,
    1e6,   1e7,   1e8,   1e9,   1e10,  1e11,  1e12,  1e13,  1e14,  1e15,  1e16,  1e17,  1e18};
static_assert(sizeof(kScales) == 41 * sizeof(double), "");

// The correctly rounded value of [begin, end), which ScanNumber() has accepted. False when it is beyond
// double's range.
bool SlowValue(const char* begin, const char* end, const Number& number, double* value);
bool SlowValue(const char* begin, const char* end, const Number& number, float* value);

}  // namespace number_internal

// Scans one number of RFC 8259's grammar. Returns where it ends, or nullptr when there is none at `p`.
[[gnu::always_inline]] inline const char* ScanNumber(const char* p, const char* end, Number* number) {
  namespace internal = number_internal;
  *number = Number();
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
    while (true) {
      if (end - p < 8) {
        while (p != end && internal::IsDigit(*p)) digits = digits * 10 + static_cast<unsigned>(*p++ - '0');
        break;
      }
      std::uint64_t values;
      const int run = internal::CountDigits(internal::Load8(p), &values);
      p += run;
      if (run == 8) {
        digits = digits * 100000000u + internal::Value8(values);
        continue;
      }
      // Shifted until the run is at the end, behind zeros; in two steps, as the run may be empty.
      digits = digits * internal::kWholePowersOfTen[run] + internal::Value8(values << (56 - 8 * run) << 8);
      break;
    }
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

// The value of the number in [begin, end), correctly rounded. Float: what lies beyond float's range is
// infinite. False when it is beyond double's range.
inline bool NumberValue(const char* begin, const char* end, const Number& number, double* value) {
  namespace internal = number_internal;
  if (!number.exact || number.digits > (std::uint64_t{1} << 53) || number.exponent < -22 ||
      number.exponent > 22) {
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

[[gnu::always_inline]] inline bool NumberValue(const char* begin, const char* end, const Number& number,
                                               float* value) {
  namespace internal = number_internal;
  if (!number.exact || number.exponent < -22 || number.exponent > 18) {
    return internal::SlowValue(begin, end, number, value);
  }
  const double magnitude = static_cast<double>(number.digits) * internal::kScales[number.exponent + 22];
  // The digits, the power of ten and the product were rounded, each by at most half a unit of double's last
  // place, which makes three units at most. Rounding to float gives the same as rounding the exact value
  // would, unless the two may lie on different sides of the middle between two floats.
  std::uint64_t bits;
  std::memcpy(&bits, &magnitude, 8);
  if (((bits + 4) & 0x1FFFFFFFu) - 0x10000000u <= 8) return internal::SlowValue(begin, end, number, value);
  const float rounded = static_cast<float>(magnitude);
  *value = number.negative ? -rounded : rounded;
  return true;
}

}  // namespace tfipu::serving::json

#endif  // SERVING_JSON_NUMBER_H_
