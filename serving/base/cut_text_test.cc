#include "serving/base/cut_text.h"

#include <gtest/gtest.h>

#include <string>

namespace tfipu::serving::base {
namespace {

TEST(CutTextTest, CutsBetweenCharacters) {
  EXPECT_EQ(CutText("short", 10), "short");
  EXPECT_EQ(CutText("shorter", 5), "short");
  EXPECT_EQ(CutText("a\u00e9", 2), "a");
  EXPECT_EQ(CutText("a\u00e9", 3), "a\u00e9");
  EXPECT_EQ(CutText("\u20acuro", 2), "");
  EXPECT_EQ(CutText("ab\U0001f600", 5), "ab");
  EXPECT_EQ(CutText("ab\U0001f600", 6), "ab\U0001f600");
}

TEST(CutTextTest, CutsWhatIsNotUtf8AtTheBound) {
  const std::string bytes(10, '\x80');
  EXPECT_EQ(CutText(bytes, 6).size(), 6);
}

}  // namespace
}  // namespace tfipu::serving::base
