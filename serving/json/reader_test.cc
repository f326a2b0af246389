#include "serving/json/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace tfipu::serving::json {
namespace {

bool Skips(const std::string& text, int max_depth = 100) {
  Reader reader(text, max_depth);
  return reader.SkipValue() && reader.Finish();
}

TEST(JsonReaderTest, AcceptsWhatIsJson) {
  for (const char* text :
       {"1", " [ ] ", "{}", "[[],{}]", R"({"a": [1, -2.5e+3, true, false, null, "x\u00e9\n"], "b": {}})",
        "[NaN]", "[Infinity, -Infinity, Inf, -Inf, -NaN]", "0", "-0", "0.5", "1e5", "1E-5", "\"\"",
        "\t\r\n 1", "\xef\xbb\xbf[]"}) {
    EXPECT_TRUE(Skips(text)) << text;
  }
}

TEST(JsonReaderTest, RefusesWhatIsNot) {
  for (const char* text : {"",
                           " ",
                           "[",
                           "]",
                           "[1",
                           "[1,",
                           "[1,]",
                           "[,1]",
                           "[1 2]",
                           "{",
                           "{\"a\"",
                           "{\"a\":",
                           "{\"a\":1",
                           "{\"a\":1,}",
                           "{a:1}",
                           "{\"a\" 1}",
                           "{1:1}",
                           "[1}",
                           "{\"a\":1]",
                           "01",
                           "-",
                           "+1",
                           ".5",
                           "1.",
                           "1e",
                           "1e+",
                           "0x10",
                           "nul",
                           "tru",
                           "True",
                           "nan",
                           "Nan",
                           "inf",
                           "\"",
                           "\"\\",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\ud800\"",
                           "\"\\ud800\\u0041\"",
                           "\"\\udc00\"",
                           "\"a\nb\"",
                           "1 2",
                           "[] []",
                           "1e400",
                           "-1e400",
                           "'a'",
                           "[1] // x",
                           "\xef\xbb[]",
                           "[\xef\xbb\xbf]"}) {
    EXPECT_FALSE(Skips(text)) << text;
  }
  EXPECT_FALSE(Skips(std::string("\"a\0b\"", 5)));
}

TEST(JsonReaderTest, NamesTheOffset) {
  Reader reader("{\"instances\": [1.0,]}", 10);
  EXPECT_FALSE(reader.SkipValue());
  EXPECT_THAT(std::string(reader.status().message()), testing::HasSubstr("offset: 19"));
}

TEST(JsonReaderTest, BoundsDepthWithoutRecursion) {
  const std::string open(1000000, '[');
  EXPECT_FALSE(Skips(open));
  EXPECT_FALSE(Skips(open, 2000000));  // never closed, but no stack is used up either
  EXPECT_TRUE(Skips(std::string(1000000, '[') + std::string(1000000, ']'), 1000000));
  EXPECT_TRUE(Skips("[[[]]]", 3));
  EXPECT_FALSE(Skips("[[[]]]", 2));
  EXPECT_FALSE(Skips("{\"a\":{\"a\":[]}}", 2));
}

TEST(JsonReaderTest, Strings) {
  const auto read = [](const std::string& text) {
    Reader reader(text, 10);
    absl::string_view value;
    EXPECT_TRUE(reader.ReadString(&value)) << text;
    return std::string(value);
  };
  EXPECT_EQ(read(R"("plain and longer than eight")"), "plain and longer than eight");
  EXPECT_EQ(read(R"("\"\\\/\b\f\n\r\t")"), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(read(R"("\u0041\u00e9\u2603\ud83d\ude00")"), "A\u00e9\u2603\U0001F600");
  EXPECT_EQ(read(R"("a\u0000b")"), std::string("a\0b", 3));
  EXPECT_EQ(read("\"\xff\xfe\""), "\xff\xfe");  // bytes are kept
}

TEST(JsonReaderTest, Integers) {
  const auto integer = [](const std::string& text, std::int64_t* value) {
    Reader reader(text, 10);
    double number;
    bool is_integer;
    EXPECT_TRUE(reader.ReadNumber(&number, &is_integer, value)) << text;
    return is_integer;
  };
  std::int64_t value;
  EXPECT_TRUE(integer("9223372036854775807", &value));
  EXPECT_EQ(value, std::numeric_limits<std::int64_t>::max());
  EXPECT_TRUE(integer("-9223372036854775808", &value));
  EXPECT_EQ(value, std::numeric_limits<std::int64_t>::min());
  EXPECT_FALSE(integer("9223372036854775808", &value));
  EXPECT_FALSE(integer("-9223372036854775809", &value));
  EXPECT_FALSE(integer("1.0", &value));
  EXPECT_FALSE(integer("1e3", &value));
}

TEST(JsonReaderTest, MembersInOrder) {
  Reader reader(R"( {"a" : 1 , "b":[2,3],"c":{}} )", 10);
  std::string seen;
  absl::string_view key;
  ASSERT_TRUE(reader.Enter('{'));
  while (reader.NextMember(&key)) {
    seen += std::string(key);
    if (reader.Peek() == '[') {
      ASSERT_TRUE(reader.Enter('['));
      double number;
      while (reader.NextElement()) {
        ASSERT_TRUE(reader.ReadNumber(&number, nullptr, nullptr));
        seen += std::to_string(static_cast<int>(number));
      }
    } else {
      ASSERT_TRUE(reader.SkipValue());
    }
  }
  EXPECT_TRUE(reader.Finish());
  EXPECT_EQ(seen, "ab23c");
}

// Whatever rapidjson takes, this takes, and the other way round. (But it takes half a surrogate pair when
// that is the second.)
TEST(JsonReaderTest, AgreesWithRapidjson) {
  const std::vector<std::string> seeds = {
      R"({"signature_name": "x", "instances": [[1.5, -2e3, NaN], [0, 1, 10]], "a": {"b64": "aGVsbG8="}})",
      R"([{"a": "\u00e9 \u0041\n", "b": [true, false, null, []], "c": {}}, "\\\"", 1e-7, -Infinity])",
      R"({"inputs": {"x": [[[1]], [[2]]], "y": ["a", "bcdefghijklmnop", ""]}})"};
  const char alphabet[] = "0123456789+-.eE,:{}[]\"\\ \n\ttrufalsenNaIiyu\x01\xff";
  std::mt19937 random(7);
  int accepted = 0;
  for (int i = 0; i < 60000; ++i) {
    std::string text = seeds[i % seeds.size()];
    for (int n = random() % 4; n > 0; --n) {
      const std::size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = alphabet[random() % (sizeof(alphabet) - 1)];
          break;
        case 1:
          text.erase(at, 1 + random() % 3);
          break;
        case 2:
          text.insert(at, 1, alphabet[random() % (sizeof(alphabet) - 1)]);
          break;
      }
      if (text.empty()) text = " ";
    }
    rapidjson::Document document;
    if (text.find("NI") != std::string::npos) continue;  // which it takes for NaN
    document.Parse<rapidjson::kParseIterativeFlag | rapidjson::kParseNanAndInfFlag>(text.data(), text.size());
    EXPECT_EQ(Skips(text), !document.HasParseError()) << text;
    accepted += !document.HasParseError();
  }
  EXPECT_GT(accepted, 5000);
}

}  // namespace
}  // namespace tfipu::serving::json
