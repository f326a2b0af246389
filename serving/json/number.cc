#include "serving/json/number.h"

#include <charconv>
#include <limits>
#include <system_error>

namespace tfipu::serving::json::number_internal {
namespace {

// Where the first digit that is not zero stands: the value is 0.d1d2d3... times ten to this power.
long long Magnitude(const char* begin, const char* end, const Number& number) {
  long long integer_digits = 0;
  long long leading_zeros = 0;
  bool leading = true;
  bool fraction = false;
  for (const char* p = begin; p != end && *p != 'e' && *p != 'E'; ++p) {
    if (*p == '.') fraction = true;
    if (!IsDigit(*p)) continue;
    leading = leading && *p == '0';
    if (leading) {
      if (fraction) ++leading_zeros;
    } else if (!fraction) {
      ++integer_digits;
    }
  }
  // `exponent` counts from the last digit written, the fraction's length included.
  long long fraction_digits = 0;
  fraction = false;
  for (const char* p = begin; p != end && *p != 'e' && *p != 'E'; ++p) {
    if (fraction) ++fraction_digits;
    if (*p == '.') fraction = true;
  }
  return number.exponent + fraction_digits + (integer_digits > 0 ? integer_digits : -leading_zeros);
}

}  // namespace

bool SlowValue(const char* begin, const char* end, const Number& number, double* value) {
  if (std::from_chars(begin, end, *value).ec == std::errc()) {
    return *value - *value == 0;
  }
  if (Magnitude(begin, end, number) > 0) return false;
  *value = number.negative ? -0.0 : 0.0;
  return true;
}

bool SlowValue(const char* begin, const char* end, const Number& number, float* value) {
  if (std::from_chars(begin, end, *value).ec == std::errc() && *value - *value == 0 && *value != 0)
    return true;
  // Beyond float's range, or among its subnormals.
  double wide;
  if (!SlowValue(begin, end, number, &wide)) return false;
  *value = static_cast<float>(wide);
  return true;
}

}  // namespace tfipu::serving::json::number_internal
