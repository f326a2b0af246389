#include "serving/api/error_text.h"

#include <gtest/gtest.h>

namespace tfipu::serving {
namespace {

TEST(ErrorTextTest, KnowsUtf8) {
  for (const char* text : {"", "a", "eight by", "nine by t", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80",
                           "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF", "\xF0\x90\x80\x80",
                           "\xF4\x8F\xBF\xBF", "seven..\xE2\x82\xAC and more"}) {
    EXPECT_TRUE(IsUtf8(text)) << text;
  }
  for (const char* text :
       {"\x80", "\xFF", "\xC0\x80", "\xC1\xBF", "\xC2", "\xC2x", "\xE0\x9F\xBF", "\xE2\x82", "\xED\xA0\x80",
        "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "seven..\xE2\x82 and more"}) {
    EXPECT_FALSE(IsUtf8(text)) << text;
  }
}

TEST(ErrorTextTest, KeepsWhatIsShortAndValid) {
  EXPECT_EQ(ErrorText(""), "");
  EXPECT_EQ(ErrorText("as it is: \xE2\x82\xAC"), "as it is: \xE2\x82\xAC");
  EXPECT_EQ(ErrorText(std::string(kMaxErrorText, 'x')), std::string(kMaxErrorText, 'x'));
}

TEST(ErrorTextTest, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(ErrorText("a\xFF\xE2\x82z"), "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz");
}

// Whatever is cut where, it stays UTF-8 and within the limit.
TEST(ErrorTextTest, CutsBetweenCharacters) {
  for (const std::string& character : {std::string("x"), std::string("\xC3\xA9"), std::string("\xE2\x82\xAC"),
                                       std::string("\xF0\x9F\x98\x80"), std::string("\xFF")}) {
    std::string text;
    while (text.size() < 200) text += character;
    for (std::size_t limit = 3; limit < 50; ++limit) {
      const std::string cut = ErrorText(text, limit);
      EXPECT_TRUE(IsUtf8(cut));
      EXPECT_LE(cut.size(), limit);
      EXPECT_GT(cut.size() + 4, limit) << "cut more than need be";
      EXPECT_EQ(cut.substr(cut.size() - 3), "...");
    }
  }
}

}  // namespace
}  // namespace tfipu::serving
