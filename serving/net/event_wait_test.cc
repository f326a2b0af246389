#include "serving/net/event_wait.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>

namespace tfipu::serving::net {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;

class EventWaitTest : public testing::Test {
 protected:
  EventWaitTest() {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = source_;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, source_, &event);
  }
  ~EventWaitTest() override {
    close(source_);
    close(epoll_);
  }

  int Wait(EventWait& wait, int timeout_ms) { return wait.Wait(epoll_, &event_, 1, timeout_ms); }
  void Raise() { eventfd_write(source_, 1); }
  void Clear() {
    eventfd_t ignored;
    eventfd_read(source_, &ignored);
  }

  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  const int source_ = eventfd(0, EFD_CLOEXEC);
  epoll_event event_{};
};

TEST_F(EventWaitTest, LooksForEventsAfterOnesThatCameAtOnce) {
  EventWait wait(hours(1));
  EXPECT_FALSE(wait.expects_soon());
  Raise();
  EXPECT_EQ(Wait(wait, -1), 1);
  EXPECT_EQ(event_.data.fd, source_);
  EXPECT_TRUE(wait.expects_soon());
  Clear();
  // It looks for an hour before it would sleep, and finds this long before.
  std::thread later([this] { Raise(); });
  EXPECT_EQ(Wait(wait, -1), 1);
  later.join();
  EXPECT_TRUE(wait.expects_soon());
}

TEST_F(EventWaitTest, StopsLookingWhenNothingComes) {
  EventWait wait(microseconds(1));
  Raise();
  while (!wait.expects_soon()) Wait(wait, -1);
  Clear();
  EXPECT_EQ(Wait(wait, 1), 0);
  EXPECT_FALSE(wait.expects_soon());
}

TEST_F(EventWaitTest, NeverLooksUnlessToldTo) {
  EventWait wait(microseconds(0));
  Raise();
  EXPECT_EQ(Wait(wait, -1), 1);
  EXPECT_FALSE(wait.expects_soon());
  Clear();
  EXPECT_EQ(Wait(wait, 0), 0);
}

}  // namespace
}  // namespace tfipu::serving::net
