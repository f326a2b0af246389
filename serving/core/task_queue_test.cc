#include "serving/core/task_queue.h"

#include <atomic>
#include <vector>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu::serving {
namespace {

TEST(TaskQueueTest, DoesTasksInOrderOfTheirTime) {
  TaskQueue queue("test", 1);
  absl::Notification begin, end;
  std::vector<int> order;
  queue.Add([&] { begin.WaitForNotification(); });
  const absl::Time now = absl::Now();
  queue.Add(
      [&] {
        order.push_back(3);
        end.Notify();
      },
      now + absl::Milliseconds(20));
  queue.Add([&] { order.push_back(2); }, now);
  queue.Add([&] { order.push_back(1); });
  begin.Notify();
  end.WaitForNotification();
  EXPECT_THAT(order, ::testing::ElementsAre(1, 2, 3));
}

TEST(TaskQueueTest, UsesAllItsThreads) {
  TaskQueue queue("test", 3);
  // Ends only if three tasks run at the same time.
  auto* const barrier = new absl::Barrier(4);
  for (int i = 0; i < 3; ++i) {
    queue.Add([barrier] {
      if (barrier->Block()) delete barrier;
    });
  }
  if (barrier->Block()) delete barrier;
}

TEST(TaskQueueTest, StopFinishesWhatIsDueAndDropsTheRest) {
  std::atomic<int> done{0};
  TaskQueue queue("test", 1);
  for (int i = 0; i < 5; ++i) queue.Add([&] { ++done; });
  queue.Add([&] { done += 100; }, absl::Now() + absl::Hours(1));
  queue.Stop();
  queue.Add([&] { done += 1000; });
  queue.Stop();
  EXPECT_EQ(done, 5);
}

}  // namespace
}  // namespace tfipu::serving
