#include "cc/base/histogram.h"

#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

TEST(HistogramTest, EmptyHistogramIsAllZero) {
  Histogram histogram;
  const Histogram::Snapshot snapshot = histogram.Read();
  EXPECT_EQ(snapshot.count, 0);
  EXPECT_EQ(snapshot.Quantile(0.5), 0);
  EXPECT_EQ(snapshot.Mean(), 0);
}

TEST(HistogramTest, BucketsTileTheNumbers) {
  for (int i = 0; i < Histogram::kBuckets; ++i) {
    const std::uint64_t low = Histogram::LowerBound(i);
    EXPECT_EQ(Histogram::BucketOf(low), i);
    if (i > 0) {
      EXPECT_LT(Histogram::LowerBound(i - 1), low);
      EXPECT_EQ(Histogram::BucketOf(low - 1), i - 1);
    }
  }
  EXPECT_EQ(Histogram::BucketOf(~std::uint64_t{0}), Histogram::kBuckets - 1);
}

TEST(HistogramTest, SmallValuesAreExact) {
  Histogram histogram;
  for (int i = 0; i < 10; ++i) histogram.Add(2);
  EXPECT_EQ(histogram.Read().Quantile(0), 2);
  EXPECT_EQ(histogram.Read().Quantile(0.99), 2);
}

TEST(HistogramTest, QuantilesAreOffByAtMostAnEighth) {
  for (std::uint64_t n : {10u, 1000u, 100000u}) {
    Histogram histogram;
    for (std::uint64_t i = 1; i <= n; ++i) histogram.Add(i);
    const Histogram::Snapshot snapshot = histogram.Read();
    EXPECT_EQ(snapshot.max, n);
    EXPECT_DOUBLE_EQ(snapshot.Mean(), (n + 1) / 2.0);
    for (double q : {0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
      EXPECT_NEAR(snapshot.Quantile(q), q * n, q * n / 8 + 1) << n << " at " << q;
    }
  }
}

TEST(HistogramTest, QuantileNeverExceedsTheMaximum) {
  Histogram histogram;
  histogram.Add(65);
  EXPECT_EQ(histogram.Read().Quantile(1), 65);
  EXPECT_LE(histogram.Read().Quantile(0.5), 65);
}

TEST(HistogramTest, NoValueIsLostBetweenThreads) {
  Histogram histogram;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&histogram] {
      for (int i = 0; i < 10000; ++i) histogram.Add(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(histogram.Read().count, 40000);
  EXPECT_EQ(histogram.Read().max, 9999);
  EXPECT_DOUBLE_EQ(histogram.Read().sum, 4.0 * 9999 * 10000 / 2);
}

}  // namespace
}  // namespace tfipu
