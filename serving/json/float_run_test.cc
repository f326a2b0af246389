#include "serving/json/float_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace tfipu::serving::json {
namespace {

using Reader = const char* (*)(const char*, const char*, float**, float*);

// What is read of a text that begins with a number, and how far.
std::vector<float> Read(Reader reader, const std::string& text, std::size_t room, std::size_t* used) {
  std::vector<float> values(room);
  float* out = values.data();
  *used = reader(text.data(), text.data() + text.size(), &out, values.data() + room) - text.data();
  values.resize(out - values.data());
  return values;
}

class JsonFloatRunTest : public testing::TestWithParam<Reader> {
 protected:
  void SetUp() override {
    if (GetParam() == float_run_internal::ReadAvx2 && !float_run_internal::HaveAvx2()) {
      GTEST_SKIP() << "This machine has no AVX2";
    }
  }
};

TEST_P(JsonFloatRunTest, RoundsCorrectly) {
  std::mt19937_64 random(5);
  const char* const formats[] = {"%.17g", "%.16g", "%.8f",  "%.2f", "%.1f",
                                 "%.9g",  "%.20f", "%.30f", "%.0f", "%.3e"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    std::vector<std::string> numbers;
    const char* const separator = round % 2 == 0 ? ", " : ",";
    const double scale = std::pow(10.0, static_cast<int>(random() % 12) - 6);
    for (int i = 0; i < 100; ++i) {
      char number[128];
      double value = static_cast<double>(random() >> 11) / 9007199254740992.0 * scale;
      if (random() % 16 == 0) {  // in the middle between two floats, or next to it
        const float low = static_cast<float>(value);
        value = (double{low} + double{std::nextafter(low, 2 * low + 1)}) / 2;
        if (random() % 2 == 0) value = std::nextafter(value, 0);
      }
      if (random() % 2 == 0) value = -value;
      std::snprintf(number, sizeof(number), formats[round % 2 == 0 ? random() % 10 : (round / 2) % 10],
                    value);
      numbers.push_back(number);
      text += number;
      text += separator;
    }
    text += "1.5]";
    std::size_t used;
    const std::vector<float> values = Read(GetParam(), text, 1000, &used);
    ASSERT_EQ(values.size(), numbers.size()) << text;
    EXPECT_EQ(text.substr(used), "1.5]");
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float expected = std::strtof(numbers[i].c_str(), nullptr);
      ASSERT_EQ(0, std::memcmp(&values[i], &expected, sizeof(float))) << numbers[i] << " " << values[i];
    }
  }
}

TEST_P(JsonFloatRunTest, StopsBeforeWhatIsNotOrdinary) {
  std::string many;
  for (int i = 0; i < 40; ++i) many += "0.25,";
  for (const char* odd : {"",
                          " ",
                          "]",
                          "NaN,",
                          "-,",
                          "01.5,",
                          "1.,",
                          ".5,",
                          "1.5.5,",
                          "1-2,",
                          "0.5 ,",
                          "1e,",
                          "1e999,",
                          "--1,",
                          "+1,",
                          "0.5",
                          "1,,",
                          "\"1\",",
                          "[1,",
                          "0,5]",
                          "0.5-5,",
                          "0.5 5,",
                          "-0.5.,",
                          "- 0.5,",
                          "/0.5,",
                          "0.1234567890123456x,",
                          "0.12345678901234567-,",
                          "1 1,"}) {
    const std::string text = many + odd;
    std::size_t used;
    const std::vector<float> values = Read(GetParam(), text, 1000, &used);
    const bool another = odd == std::string("1,,") || odd == std::string("0,5]");
    EXPECT_EQ(values.size(), another ? 41 : 40) << odd;
    EXPECT_EQ(values.back(), another ? (odd[0] == '1' ? 1.0f : 0.0f) : 0.25f) << odd;
    // White space between two numbers may have been passed.
    EXPECT_LE(used, many.size() + (another ? 2 : 1)) << odd;
    EXPECT_GE(used, many.size()) << odd;
  }
}

TEST_P(JsonFloatRunTest, KeepsToTheRoomAndTheText) {
  std::string text;
  for (int i = 0; i < 500; ++i)
    text += std::to_string(i % 10) + "." + std::string(1 + i % 20, '5') + (i % 3 == 0 ? "," : ", ");
  for (std::size_t room = 0; room < 130; ++room) {
    std::size_t used;
    EXPECT_EQ(Read(GetParam(), text, room, &used).size(), room);
  }
  for (std::size_t size = 0; size < 400; ++size) {
    const std::vector<char> exact(text.begin(),
                                  text.begin() + size);  // so that a sanitizer sees what lies behind
    std::vector<float> values(500);
    float* out = values.data();
    const char* const end = GetParam()(exact.data(), exact.data() + size, &out, values.data() + 500);
    EXPECT_LE(end, exact.data() + size);
    EXPECT_EQ(out - values.data(), std::count(exact.begin(), exact.end(), ','));
  }
}

// As callers do: white space at which the reader stops is passed, and it goes on behind it.
std::vector<float> ReadOn(Reader reader, const std::string& text, std::size_t* used) {
  std::vector<float> values;
  *used = 0;
  while (true) {
    std::size_t more;
    const std::vector<float> read = Read(reader, text.substr(*used), 1000, &more);
    values.insert(values.end(), read.begin(), read.end());
    const std::size_t next = std::min(text.find_first_not_of(' ', *used + more), text.size());
    if (next == *used) return values;
    *used = next;
  }
}

TEST(JsonFloatRunAgreementTest, MutatedTextsAreReadAlike) {
  if (!float_run_internal::HaveAvx2()) GTEST_SKIP() << "This machine has no AVX2";
  std::mt19937 random(7);
  const std::string characters = "0123456789.,- -..,,eE/[]+x";
  int stopped = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    while (text.size() < 400) {
      if (random() % 3 == 0) text += '-';
      text += static_cast<char>('0' + random() % 10);
      text += '.';
      for (unsigned digits = 1 + random() % 20; digits > 0; --digits) {
        text += static_cast<char>('0' + random() % 10);
      }
      text += random() % 2 == 0 ? "," : ", ";
    }
    for (unsigned changes = random() % 3; changes > 0; --changes) {
      const std::size_t at = random() % text.size();
      const char c = characters[random() % characters.size()];
      if (random() % 2 == 0) {
        text[at] = c;
      } else {
        text.insert(at, 1, c);
      }
    }
    std::size_t used, portably_used;
    const std::vector<float> values = ReadOn(float_run_internal::ReadAvx2, text, &used);
    const std::vector<float> expected = ReadOn(float_run_internal::ReadPortable, text, &portably_used);
    ASSERT_EQ(values.size(), expected.size()) << text;
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(0, std::memcmp(&values[i], &expected[i], sizeof(float))) << i << " " << text;
    }
    ASSERT_EQ(used, portably_used) << text;
    stopped += used + 20 < text.size();
  }
  EXPECT_GT(stopped, 1000);
}

INSTANTIATE_TEST_SUITE_P(Portable, JsonFloatRunTest, testing::Values(float_run_internal::ReadPortable));
INSTANTIATE_TEST_SUITE_P(Avx2, JsonFloatRunTest, testing::Values(float_run_internal::ReadAvx2));

}  // namespace
}  // namespace tfipu::serving::json
