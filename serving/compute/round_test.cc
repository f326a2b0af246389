#include "serving/compute/round.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu::serving::compute {
namespace {

using ::testing::ElementsAre;

TEST(RoundTest, RunsWhatWasAskedForWhenItIsClosed) {
  EXPECT_EQ(Round::Current(), nullptr);
  std::vector<int> ran;
  const int a = 0, b = 0;
  {
    ScopedRound scope;
    Round* const round = Round::Current();
    ASSERT_NE(round, nullptr);
    for (int i = 0; i < 3; ++i) {
      if (!round->Has(&a)) round->AtEnd(&a, [&] { ran.push_back(1); });
    }
    round->AtEnd(&b, [&] {
      ran.push_back(2);
      // What is started meanwhile is run as well.
      if (!Round::Current()->Has(&a)) Round::Current()->AtEnd(&a, [&] { ran.push_back(3); });
    });
    EXPECT_TRUE(ran.empty());
  }
  EXPECT_THAT(ran, ElementsAre(1, 2, 3));
  EXPECT_EQ(Round::Current(), nullptr);
}

TEST(RoundTest, NextRoundBeginsEmpty) {
  int ran = 0;
  for (int i = 0; i < 2; ++i) {
    ScopedRound scope;
    EXPECT_FALSE(Round::Current()->Has(&ran));
    Round::Current()->AtEnd(&ran, [&] { ++ran; });
  }
  EXPECT_EQ(ran, 2);
}

}  // namespace
}  // namespace tfipu::serving::compute
