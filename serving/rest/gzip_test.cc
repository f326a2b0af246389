#include "serving/rest/gzip.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace tfipu::serving {
namespace {

std::string Compressed(const std::string& plain) {
  std::string out;
  EXPECT_TRUE(Gzip(plain, &out));
  return out;
}

TEST(GzipTest, RoundTrip) {
  std::mt19937 random(3);
  for (std::size_t size : {0, 1, 10, 4096, 100000, 3000000}) {
    std::string plain(size, 'a');
    for (std::size_t i = 0; i < size / 2; ++i) plain[i] = static_cast<char>(random());
    std::string back;
    ASSERT_EQ(Gunzip(Compressed(plain), size, &back), GunzipResult::kOk);
    EXPECT_EQ(back, plain);
  }
}

TEST(GzipTest, BoundsWhatItWrites) {
  const std::string bomb = Compressed(std::string(50 << 20, '0'));
  ASSERT_LT(bomb.size(), 1 << 20);
  std::string out;
  EXPECT_EQ(Gunzip(bomb, 100000, &out), GunzipResult::kTooLarge);
  EXPECT_LT(out.capacity(), 200002 + bomb.size() * 3);
  EXPECT_EQ(Gunzip(Compressed("abc"), 2, &out), GunzipResult::kTooLarge);
  EXPECT_EQ(Gunzip(Compressed("abc"), 3, &out), GunzipResult::kOk);
}

TEST(GzipTest, RefusesDamage) {
  const std::string good = Compressed("some text that is worth compressing, some text that is");
  std::string out;
  EXPECT_EQ(Gunzip("", 1000, &out), GunzipResult::kCorrupt);
  EXPECT_EQ(Gunzip("hello", 1000, &out), GunzipResult::kCorrupt);
  EXPECT_EQ(Gunzip(good + "x", 1000, &out), GunzipResult::kCorrupt);
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(Gunzip(good.substr(0, size), 1000, &out), GunzipResult::kCorrupt) << size;
  }
  for (std::size_t i = 10; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] ^= 0x55;
    EXPECT_NE(Gunzip(bad, 1000, &out), GunzipResult::kOk) << i;
  }
}

}  // namespace
}  // namespace tfipu::serving
