#include "serving/api/call_pool.h"

#include <atomic>
#include <thread>

#include "absl/synchronization/barrier.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace tfipu::serving {
namespace {

TEST(CallPoolTest, RunsShortCallsInTheCallersThread) {
  CallPool pool(1, 1);
  std::thread::id where;
  EXPECT_TRUE(pool.Run(true, [&] { where = std::this_thread::get_id(); }).ok());
  EXPECT_EQ(where, std::this_thread::get_id());
}

TEST(CallPoolTest, RunsOthersAtTheSameTimeAsLongAsThereAreThreads) {
  CallPool pool(4, 0);
  auto* const barrier = new absl::Barrier(5);
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(pool.Run(false,
                         [barrier] {
                           if (barrier->Block()) delete barrier;
                         })
                    .ok());
  }
  if (barrier->Block()) delete barrier;
}

TEST(CallPoolTest, RefusesWhatItsQueueHasNoRoomFor) {
  absl::Notification go;
  std::atomic<int> done{0};
  {
    CallPool pool(1, 2);
    absl::Notification running;
    ASSERT_TRUE(pool.Run(false,
                         [&] {
                           running.Notify();
                           go.WaitForNotification();
                           ++done;
                         })
                    .ok());
    running.WaitForNotification();
    EXPECT_TRUE(pool.Run(false, [&] { ++done; }).ok());
    EXPECT_TRUE(pool.Run(false, [&] { ++done; }).ok());
    EXPECT_TRUE(absl::IsResourceExhausted(pool.Run(false, [&] { done += 100; })));
    go.Notify();
  }
  EXPECT_EQ(done, 3);
}

}  // namespace
}  // namespace tfipu::serving
