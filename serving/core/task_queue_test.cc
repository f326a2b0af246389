#include "serving/core/task_queue.h"

#include <sys/resource.h>

#include <atomic>
#include <new>
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

TEST(TaskQueueTest, ATaskThatThrowsCostsOnlyItself) {
  TaskQueue queue("test", 1);
  absl::Notification done;
  queue.Add([] { throw std::bad_alloc(); });
  queue.Add([&] { done.Notify(); });
  done.WaitForNotification();
}

TEST(TaskQueueTest, AThreadThatHangsIsReplaced) {
  TaskQueue queue("test", 1);
  absl::Notification hangs, replaced, release, after;
  queue.Add([&] {
    hangs.Notify();
    release.WaitForNotification();
    queue.RemoveThread();
  });
  queue.Add([&] { replaced.Notify(); });
  hangs.WaitForNotification();
  EXPECT_FALSE(replaced.HasBeenNotified());
  queue.AddThread();
  replaced.WaitForNotification();
  EXPECT_FALSE(queue.Stop(absl::Now()));
  release.Notify();
  EXPECT_TRUE(queue.Stop());
}

// With no room for another stack, the one thread does it all.
TEST(TaskQueueTest, DoesAllTasksWhenTheSystemGivesNoThreads) {
  TaskQueue queue("test", 64);
  absl::Notification begin;
  std::atomic<int> done{0};
  queue.Add([&] { begin.WaitForNotification(); });
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  rlimit none = before;
  none.rlim_cur = 1;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &none), 0);
  for (int i = 0; i < 20; ++i) queue.Add([&] { ++done; });
  ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
  begin.Notify();
  queue.Stop();
  EXPECT_EQ(done, 20);
}

}  // namespace
}  // namespace tfipu::serving
