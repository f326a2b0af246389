#include "serving/net/http2/write_pump.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <string>

namespace tfipu::serving::net::http2 {
namespace {

// Frames of 1000 bytes.
class Frames final : public FrameSource {
 public:
  explicit Frames(int count) : left(count) {}
  bool Fill(WritePump* pump) override {
    for (; left > 0 && !pump->full(); --left)
      pump->Append(std::string(1000, static_cast<char>('a' + left % 26)));
    return !broken;
  }
  int left;
  bool broken = false;
};

class WritePumpTest : public testing::Test {
 protected:
  WritePumpTest() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    socket_ = std::make_unique<Socket>(nullptr, Descriptor(ends[0]), nullptr);
    client_ = Descriptor(ends[1]);
  }
  std::size_t Read() {
    std::string data(1 << 20, '\0');
    std::size_t all = 0;
    for (long got; (got = recv(client_.get(), data.data(), data.size(), 0)) > 0;)
      all += static_cast<std::size_t>(got);
    return all;
  }

  MemoryAccount account_;
  std::unique_ptr<Socket> socket_;
  Descriptor client_;
};

TEST_F(WritePumpTest, SendsAll) {
  WritePump pump(socket_.get(), &account_);
  Frames frames(10);
  EXPECT_EQ(pump.Flush(&frames), WritePump::Result::kDone);
  EXPECT_EQ(Read(), 10000);
  EXPECT_EQ(account_.held(), 0);
}

TEST_F(WritePumpTest, MakesNoMoreThanTheClientTakes) {
  WritePump pump(socket_.get(), &account_);
  Frames frames(5000);
  ASSERT_EQ(pump.Flush(&frames), WritePump::Result::kBlocked);
  const int left = frames.left;
  EXPECT_GT(left, 3000);
  EXPECT_GT(account_.held(), 0);
  EXPECT_LE(account_.held(), WritePump::kFull + 1000);
  EXPECT_EQ(pump.Flush(&frames), WritePump::Result::kBlocked);
  EXPECT_EQ(frames.left, left);
  std::size_t read = 0;
  while (frames.left > 0 || !pump.empty()) {
    read += Read();
    socket_->OnEvents(EPOLLOUT);
    ASSERT_NE(pump.Flush(&frames), WritePump::Result::kBroken);
  }
  EXPECT_EQ(read + Read(), 5000000);
  EXPECT_EQ(pump.sent(), 5000000);
  EXPECT_EQ(account_.held(), 0);
}

TEST_F(WritePumpTest, TellsOfTheEnd) {
  WritePump pump(socket_.get(), nullptr);
  Frames frames(1);
  frames.broken = true;
  EXPECT_EQ(pump.Flush(&frames), WritePump::Result::kBroken);
  EXPECT_EQ(Read(), 1000);  // what the error left to say
  client_.Close();
  frames = Frames(100);
  EXPECT_EQ(pump.Flush(&frames), WritePump::Result::kBroken);
}

}  // namespace
}  // namespace tfipu::serving::net::http2
