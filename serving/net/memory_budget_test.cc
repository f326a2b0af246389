#include "serving/net/memory_budget.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "serving/net/buffer.h"

namespace tfipu::serving::net {
namespace {

constexpr std::size_t kMiB = 1 << 20;

TEST(MemoryBudgetTest, RefusesTheNewest) {
  MemoryBudget budget(10 * kMiB);
  MemoryAccount a(&budget, 8 * kMiB), b(&budget, 8 * kMiB);
  EXPECT_TRUE(a.Take(8 * kMiB));
  EXPECT_FALSE(a.Take(1));
  EXPECT_FALSE(b.Take(3 * kMiB));
  EXPECT_TRUE(b.Take(2 * kMiB));
  EXPECT_EQ(a.held() + b.held(), 10 * kMiB);
  EXPECT_EQ(budget.usage().held, 10 * kMiB - 2 * MemoryBudget::kFreeBytes);
  EXPECT_EQ(budget.usage().refused, 2);
  a.Give(8 * kMiB);
  b.Give(2 * kMiB);
  EXPECT_EQ(budget.usage().held, 0);
  EXPECT_EQ(budget.usage().most_held, 10 * kMiB - 2 * MemoryBudget::kFreeBytes);
}

TEST(MemoryBudgetTest, SmallThingsAlwaysFit) {
  MemoryBudget budget(kMiB);
  MemoryAccount greedy(&budget), small(&budget);
  while (greedy.Take(1000)) {
  }
  EXPECT_TRUE(small.Take(MemoryBudget::kFreeBytes));
  EXPECT_FALSE(small.Take(10000));
}

TEST(MemoryBudgetTest, OneMayGoBeyond) {
  MemoryBudget budget(4 * kMiB, /*one_beyond=*/true);
  MemoryAccount large(&budget, 100 * kMiB), other(&budget, 100 * kMiB), third(&budget, 100 * kMiB);
  EXPECT_TRUE(large.Take(3 * kMiB));
  EXPECT_TRUE(large.Take(90 * kMiB));
  EXPECT_FALSE(large.Take(90 * kMiB));
  // It is not counted for the others, who have all of the bound, and not more.
  EXPECT_TRUE(other.Take(4 * kMiB));
  EXPECT_FALSE(third.Take(kMiB));
  large.Give(93 * kMiB);
  EXPECT_TRUE(third.Take(50 * kMiB));
  third.Give(50 * kMiB);
  other.Give(4 * kMiB);
  EXPECT_EQ(budget.usage().held, 0);
}

TEST(MemoryBudgetTest, ThreadsOfOneAccountAddUp) {
  MemoryBudget budget(kMiB);
  MemoryAccount account(&budget, 700000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        const std::size_t size = static_cast<std::size_t>(i % 7) * 40000;
        if (account.Take(size)) account.Give(size);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(account.held(), 0);
  EXPECT_EQ(budget.usage().held, 0);
}

TEST(BufferTest, CountsWhatItHas) {
  MemoryAccount account(nullptr, 1000);
  Buffer buffer(&account);
  EXPECT_TRUE(buffer.Append("hello", 1000));
  EXPECT_TRUE(buffer.Append(std::string(900, 'x'), 1000));
  EXPECT_EQ(account.held(), buffer.capacity());
  EXPECT_FALSE(buffer.Append(std::string(200, 'x'), 10000));
  EXPECT_EQ(buffer.size(), 905);
  buffer.RemovePrefix(5);
  EXPECT_EQ(buffer.view(), std::string(900, 'x'));
  Buffer moved = std::move(buffer);
  EXPECT_EQ(moved.size(), 900);
  moved.CountBy(nullptr);
  EXPECT_EQ(account.held(), 0);
  // More than any machine has.
  EXPECT_FALSE(moved.Reserve(std::size_t{1} << 60));
}

}  // namespace
}  // namespace tfipu::serving::net
