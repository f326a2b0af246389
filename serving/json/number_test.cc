#include "serving/json/number.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>

namespace tfipu::serving::json {
namespace {

template <class T>
bool Parse(const std::string& text, T* value) {
  Number number;
  const char* const end = ScanNumber(text.data(), text.data() + text.size(), &number);
  return end == text.data() + text.size() && NumberValue(text.data(), end, number, value);
}

template <class T>
T Value(const std::string& text) {
  T value = 0;
  EXPECT_TRUE(Parse(text, &value)) << text;
  return value;
}

// The C library rounds correctly.
void ExpectAsLibc(const std::string& text) {
  const float single = Value<float>(text);
  const float expected_single = std::strtof(text.c_str(), nullptr);
  EXPECT_EQ(0, std::memcmp(&single, &expected_single, sizeof(single)))
      << text << " " << single << " " << expected_single;
  const double wide = Value<double>(text);
  const double expected_wide = std::strtod(text.c_str(), nullptr);
  EXPECT_EQ(0, std::memcmp(&wide, &expected_wide, sizeof(wide)))
      << text << " " << wide << " " << expected_wide;
}

TEST(JsonNumberTest, EdgesOfFloat) {
  for (const char* text : {"0",
                           "-0",
                           "0.0",
                           "-0.0",
                           "0e5",
                           "1",
                           "-1",
                           "3.4028234e38",
                           "3.4028235e+38",
                           "3.4028235677973366e38",
                           "1.17549435e-38",
                           "1e-45",
                           "7e-46",
                           "1.4e-45",
                           "16777217",
                           "16777216.999",
                           "16777219",
                           "9007199791611905",
                           "0.000000000000000000000001",
                           "123456789012345678901234567890",
                           "0.1234567890123456789012345678901234567890",
                           "1.00000005960464477539062500000000000000000001",
                           "1.000000059604644775390625",
                           "1.0000000596046447753906249",
                           "2.2250738585072014e-308",
                           "4.9e-324",
                           "2e-324",
                           "1.7976931348623157e308",
                           "1e-400",
                           "0.0e999999999",
                           "1e-999999999",
                           "18446744073709551615",
                           "9999999999999999999",
                           "99999999999999999999",
                           "1e22",
                           "1e23",
                           "8388608.5",
                           "8388609.5"}) {
    ExpectAsLibc(text);
  }
  EXPECT_EQ(Value<float>("1e39"), std::numeric_limits<float>::infinity());
  EXPECT_EQ(Value<float>("-1e300"), -std::numeric_limits<float>::infinity());
}

TEST(JsonNumberTest, RefusesWhatDoubleCannotHold) {
  double wide;
  float single;
  for (const char* text : {"1e309", "-1e309", "1e999999999999999999999", "1.8e308", "1000000000e307"}) {
    EXPECT_FALSE(Parse(text, &wide)) << text;
    EXPECT_FALSE(Parse(text, &single)) << text;
  }
  const std::string many(400, '9');
  EXPECT_FALSE(Parse(many, &wide));
  EXPECT_TRUE(Parse("0." + many, &wide));
  EXPECT_EQ(Value<double>("0." + std::string(400, '0') + "1"), 0.0);
  EXPECT_EQ(Value<double>("0." + std::string(400, '0') + "1e401"), 1.0);
  EXPECT_EQ(Value<double>("1" + std::string(400, '0') + "e-400"), 1.0);
}

TEST(JsonNumberTest, RandomDecimals) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 300000; ++i) {
    char text[64];
    switch (i % 4) {
      case 0: {  // any float's bits, with 9 digits
        const std::uint32_t bits = static_cast<std::uint32_t>(random());
        float value;
        std::memcpy(&value, &bits, 4);
        if (!std::isfinite(value)) continue;
        std::snprintf(text, sizeof(text), "%.9g", value);
        break;
      }
      case 1:  // as random() of Python prints
        std::snprintf(text, sizeof(text), "%.17g", static_cast<double>(random() >> 11) / 9007199254740992.0);
        break;
      case 2: {  // close to the middle between two floats
        const float low = static_cast<float>(random() % 1000000) / 997.0f;
        const float high = std::nextafter(low, 1e9f);
        std::snprintf(text, sizeof(text), "%.*g", static_cast<int>(8 + random() % 12),
                      (double{low} + double{high}) / 2);
        break;
      }
      default:
        std::snprintf(text, sizeof(text), "%llu.%llue%d", static_cast<unsigned long long>(random() % 100000),
                      static_cast<unsigned long long>(random() >> (random() % 64)),
                      static_cast<int>(random() % 60) - 30);
    }
    ExpectAsLibc(text);
  }
}

TEST(JsonNumberTest, ShortDecimalsAllOfThem) {
  char text[16];
  for (int i = 0; i < 100000; ++i) {
    std::snprintf(text, sizeof(text), "%d.%04d", i / 10000, i % 10000);
    ExpectAsLibc(text);
  }
}

}  // namespace
}  // namespace tfipu::serving::json
