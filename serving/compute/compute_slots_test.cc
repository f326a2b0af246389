#include "serving/compute/compute_slots.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu::serving::compute {
namespace {

using ::testing::ElementsAre;

class Counter {
 public:
  void Add() {
    std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
    changed_.notify_all();
  }
  void Await(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return count_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

// Keeps its core until told otherwise.
void ComputeUntil(const std::atomic<bool>& told) {
  while (!told.load()) {
  }
}

TEST(ComputeSlotsTest, RunsByPriorityAndArrivalOverAllQueues) {
  ComputeSlots slots({.slots = 1});
  ComputeQueue a(&slots, 10, 10), b(&slots, 10, 10);
  std::atomic<bool> open{false};
  Counter inside, done;
  std::vector<int> order;
  ASSERT_TRUE(a.Run(false, [&] {
                 inside.Add();
                 ComputeUntil(open);
               }).ok());
  inside.Await(1);
  const auto note = [&](int number) {
    return [&, number] {
      order.push_back(number);
      done.Add();
    };
  };
  ASSERT_TRUE(a.Run(false, note(1)).ok());
  ASSERT_TRUE(b.Run(false, note(2)).ok());
  ASSERT_TRUE(a.Run(true, note(3)).ok());
  ASSERT_TRUE(b.Run(true, note(4)).ok());
  ASSERT_TRUE(a.Run(false, note(5)).ok());
  open = true;
  done.Await(5);
  EXPECT_THAT(order, ElementsAre(3, 4, 1, 2, 5));
}

TEST(ComputeSlotsTest, NoMoreComputeThanThereAreSlots) {
  ComputeSlots slots({.slots = 2});
  std::atomic<int> inside{0}, most{0};
  {
    ComputeQueue queue(&slots, 100, 100);
    for (int i = 0; i < 30; ++i) {
      ASSERT_TRUE(queue
                      .Run(false,
                           [&] {
                             const int now = ++inside;
                             int before = most.load();
                             while (now > before && !most.compare_exchange_weak(before, now)) {
                             }
                             // Longer than some looks.
                             volatile double sum = 0;
                             for (int k = 0; k < 5'000'000; ++k) sum = sum + k;
                             --inside;
                           })
                      .ok());
    }
  }
  EXPECT_GE(most.load(), 1);
  EXPECT_LE(most.load(), 2);
  EXPECT_LE(slots.threads(), 2);
}

// Each waits for all others: they end only if each is let in.
TEST(ComputeSlotsTest, TasksThatWaitGiveTheirSlotsAway) {
  constexpr int kTasks = 100;
  ComputeSlots slots({.slots = 1});
  ComputeQueue queue(&slots, kTasks, 0);
  Counter inside;
  for (int i = 0; i < kTasks; ++i) {
    ASSERT_TRUE(queue
                    .Run(false,
                         [&] {
                           inside.Add();
                           inside.Await(kTasks);
                         })
                    .ok());
  }
  inside.Await(kTasks);
}

TEST(ComputeSlotsTest, QueueHasItsOwnBounds) {
  ComputeSlots slots({.slots = 4});
  ComputeQueue queue(&slots, 1, 1), other(&slots, 1, 0);
  std::atomic<bool> open{false};
  Counter inside, done;
  ASSERT_TRUE(queue
                  .Run(false,
                       [&] {
                         inside.Add();
                         ComputeUntil(open);
                       })
                  .ok());
  inside.Await(1);
  ASSERT_TRUE(queue.Run(false, [&] { done.Add(); }).ok());
  const absl::Status refused = queue.Run(true, [] { FAIL(); });
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(refused.message(), "The server is at its limit: 1 calls run and 1 wait.");
  // What fills one queue does not fill another.
  Counter other_done;
  ASSERT_TRUE(other.Run(false, [&] { other_done.Add(); }).ok());
  other_done.Await(1);
  open = true;
  done.Await(1);
}

TEST(ComputeSlotsTest, ThreadsOfSlotsKnowThatTheyAre) {
  ComputeSlots slots({.slots = 1});
  bool in_slot = false;
  {
    ComputeQueue queue(&slots, 1, 1);
    ASSERT_TRUE(queue.Run(false, [&] { in_slot = ComputeSlots::InSlot(); }).ok());
  }
  EXPECT_TRUE(in_slot);
  EXPECT_FALSE(ComputeSlots::InSlot());
}

// Random mixes of tasks that compute, wait for others and start others: each accepted one runs once.
TEST(ComputeSlotsTest, EveryAcceptedTaskRunsOnce) {
  for (unsigned seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    const auto between = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    ComputeSlots slots({.slots = between(1, 3)});
    std::atomic<int> ran{0};
    int accepted = 0;
    std::atomic<int> accepted_within{0};
    {
      ComputeQueue a(&slots, between(1, 6), static_cast<std::size_t>(between(0, 20)));
      ComputeQueue b(&slots, between(1, 6), static_cast<std::size_t>(between(0, 20)));
      Counter gate;
      const int tasks = between(1, 60);
      for (int i = 0; i < tasks; ++i) {
        const int kind = between(0, 3);
        ComputeQueue& queue = between(0, 1) == 0 ? a : b;
        accepted += queue.Run(between(0, 3) == 0,
                              [&, kind] {
                                if (kind == 0) gate.Await(1);
                                if (kind == 1) {
                                  accepted_within += queue.Run(false, [&] { ++ran; }).ok() ? 1 : 0;
                                }
                                ++ran;
                              })
                            .ok()
                        ? 1
                        : 0;
      }
      gate.Add();
    }
    EXPECT_EQ(ran.load(), accepted + accepted_within.load()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace tfipu::serving::compute
