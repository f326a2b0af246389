#include "serving/net/deflate.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace tfipu::serving::net {
namespace {

std::string Compressed(const std::string& plain, DeflateFormat format = DeflateFormat::kGzip) {
  Buffer out;
  EXPECT_TRUE(DeflateIfSmaller(format, 1, plain, 0, &out));
  return std::string(out.view());
}

Inflater::Result Inflate(const std::string& packed, std::size_t most, Buffer* out,
                         DeflateFormat format = DeflateFormat::kAny, std::size_t step = 1000) {
  out->Clear();
  Inflater inflater(format, packed, most, out);
  Inflater::Result result;
  while ((result = inflater.Run(step)) == Inflater::Result::kMore) {
  }
  return result;
}

TEST(DeflateTest, RoundTripInAnySteps) {
  std::mt19937 random(3);
  for (std::size_t size : {100, 4096, 100000, 3000000}) {
    std::string plain(size, 'a');
    for (std::size_t i = 0; i < size / 2; ++i) plain[i] = static_cast<char>(random());
    for (DeflateFormat format : {DeflateFormat::kGzip, DeflateFormat::kZlib}) {
      for (std::size_t step : {7, 1000, 10000000}) {
        if (step == 7 && size > 4096) continue;
        Buffer back;
        ASSERT_EQ(Inflate(Compressed(plain, format), size, &back, DeflateFormat::kAny, step),
                  Inflater::Result::kDone);
        EXPECT_EQ(back.view(), plain);
      }
    }
  }
}

TEST(DeflateTest, KeepsWhatWouldNotBeSmaller) {
  Buffer out;
  EXPECT_FALSE(DeflateIfSmaller(DeflateFormat::kGzip, 1, "short", 0, &out));
  EXPECT_FALSE(DeflateIfSmaller(DeflateFormat::kGzip, 1, "", 0, &out));
  EXPECT_EQ(out.capacity(), 0);
  ASSERT_TRUE(DeflateIfSmaller(DeflateFormat::kZlib, 6, std::string(1000, 'x'), 5, &out));
  Buffer back;
  EXPECT_EQ(Inflate(std::string(out.view().substr(5)), 1000, &back, DeflateFormat::kZlib),
            Inflater::Result::kDone);
}

TEST(DeflateTest, BoundsWhatItWrites) {
  const std::string bomb = Compressed(std::string(50 << 20, '0'));
  ASSERT_LT(bomb.size(), 1 << 20);
  Buffer out;
  EXPECT_EQ(Inflate(bomb, 100000, &out), Inflater::Result::kTooLarge);
  EXPECT_LE(out.capacity(), 100001);
  const std::string small = Compressed(std::string(100, 'x'));
  EXPECT_EQ(Inflate(small, 99, &out), Inflater::Result::kTooLarge);
  EXPECT_EQ(Inflate(small, 100, &out), Inflater::Result::kDone);
}

TEST(DeflateTest, StopsAtTheBoundOfTheAccount) {
  const std::string bomb = Compressed(std::string(50 << 20, '0'));
  MemoryAccount account(nullptr, 1 << 20);
  Buffer out(&account);
  EXPECT_EQ(Inflate(bomb, 100 << 20, &out), Inflater::Result::kNoMemory);
  EXPECT_LE(account.held(), 1 << 20);
  out.Clear();
  EXPECT_EQ(account.held(), 0);
}

TEST(DeflateTest, MembersOfGzipFollowEachOther) {
  const std::string a = Compressed(std::string(100, 'a'));
  const std::string z = Compressed(std::string(100, 'z'), DeflateFormat::kZlib);
  Buffer out;
  EXPECT_EQ(Inflate(a + a + a, 300, &out), Inflater::Result::kDone);
  EXPECT_EQ(out.view(), std::string(300, 'a'));
  EXPECT_EQ(Inflate(a + a, 199, &out), Inflater::Result::kTooLarge);
  EXPECT_EQ(Inflate(a + z, 1000, &out), Inflater::Result::kCorrupt);
  EXPECT_EQ(Inflate(z + z, 1000, &out), Inflater::Result::kCorrupt);
  EXPECT_EQ(Inflate(a + a.substr(0, a.size() - 1), 1000, &out), Inflater::Result::kCorrupt);
}

TEST(DeflateTest, RefusesDamage) {
  const std::string good =
      Compressed("some text that is worth compressing, some text that is worth compressing, some text");
  Buffer out;
  EXPECT_EQ(Inflate("", 1000, &out), Inflater::Result::kCorrupt);
  EXPECT_EQ(Inflate("hello", 1000, &out), Inflater::Result::kCorrupt);
  EXPECT_EQ(Inflate(good + "x", 1000, &out), Inflater::Result::kCorrupt);
  EXPECT_EQ(Inflate(good, 1000, &out, DeflateFormat::kZlib), Inflater::Result::kCorrupt);
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(Inflate(good.substr(0, size), 1000, &out), Inflater::Result::kCorrupt) << size;
  }
  for (std::size_t i = 10; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] ^= 0x55;
    EXPECT_NE(Inflate(bad, 1000, &out), Inflater::Result::kDone) << i;
  }
}

}  // namespace
}  // namespace tfipu::serving::net
