#include "serving/net/event_loop.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "serving/net/io_threads.h"

namespace tfipu::serving::net {
namespace {

// What happened, in order, from any thread.
class Journal {
 public:
  void Write(std::string what) {
    std::lock_guard<std::mutex> lock(mutex_);
    lines_.push_back(std::move(what));
    changed_.notify_all();
  }
  std::vector<std::string> WaitFor(std::size_t lines) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return lines_.size() >= lines; });
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

class Reader final : public SocketWatcher {
 public:
  Reader(EventLoop* loop, Journal* journal, std::vector<int>* together)
      : loop_(loop), journal_(journal), together_(together) {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets_), 0);
  }
  ~Reader() override {
    close(sockets_[0]);
    close(sockets_[1]);
  }
  void Send() { EXPECT_EQ(write(sockets_[1], "x", 1), 1); }
  void Watch() { loop_->Watch(sockets_[0], 1 /*EPOLLIN*/, this); }
  void Unwatch() { loop_->Unwatch(sockets_[0], this); }

  void OnSocket(std::uint32_t) override {
    char byte;
    if (read(sockets_[0], &byte, 1) != 1) return;
    journal_->Write("read");
    // The first of a round starts what all of it bring.
    if (together_->empty()) {
      loop_->AtEndOfRound([this] {
        journal_->Write("start " + std::to_string(together_->size()));
        together_->clear();
        loop_->AtEndOfRound([this] { journal_->Write("next round"); });
      });
    }
    together_->push_back(1);
    loop_->FlushAtEndOfRound(this);
    loop_->FlushAtEndOfRound(this);
  }
  void OnFlush() override { journal_->Write("flush"); }

 private:
  EventLoop* const loop_;
  Journal* const journal_;
  std::vector<int>* const together_;
  int sockets_[2];
};

TEST(EventLoopTest, WhatArrivesTogetherIsStartedTogetherAndThenFlushed) {
  std::string error;
  auto threads = IoThreads::Start(1, {}, &error);
  ASSERT_NE(threads, nullptr) << error;
  Journal journal;
  std::vector<int> together;
  Reader a(threads->loop(0), &journal, &together), b(threads->loop(0), &journal, &together);
  a.Send();
  b.Send();
  threads->RunOnEach([&](std::size_t) {
    a.Watch();
    b.Watch();
  });
  EXPECT_EQ(journal.WaitFor(6),
            (std::vector<std::string>{"read", "read", "start 2", "flush", "flush", "next round"}));
  threads->RunOnEach([&](std::size_t) {
    a.Unwatch();
    b.Unwatch();
  });
}

TEST(EventLoopTest, UnwatchedIsToldNothing) {
  std::string error;
  auto threads = IoThreads::Start(1, {}, &error);
  Journal journal;
  std::vector<int> together;
  Reader a(threads->loop(0), &journal, &together);
  threads->RunOnEach([&](std::size_t) {
    a.Watch();
    threads->loop(0)->NextRound(&a);
    threads->loop(0)->FlushAtEndOfRound(&a);
    a.Unwatch();
  });
  a.Send();
  threads->RunOnEach([&](std::size_t) { journal.Write("end"); });
  EXPECT_EQ(journal.WaitFor(1), std::vector<std::string>{"end"});
}

TEST(EventLoopTest, TimersThatThrowComeAgain) {
  std::string error;
  auto threads = IoThreads::Start(1, {}, &error);
  Journal journal;
  int calls = 0;
  threads->RunOnEach([&](std::size_t) {
    threads->loop(0)->AddTimer(EventLoop::Now(), [&] {
      journal.Write("called");
      if (++calls == 1) throw std::bad_alloc();
    });
  });
  EXPECT_EQ(journal.WaitFor(2).size(), 2);
}

TEST(EventLoopTest, MailComesInOrderFromAnyThread) {
  std::string error;
  auto threads = IoThreads::Start(2, {}, &error);
  Journal journal;
  EXPECT_EQ(EventLoop::Current(), nullptr);
  for (int i = 0; i < 100; ++i) {
    threads->loop(1)->Post([&, i] {
      EXPECT_EQ(EventLoop::Current(), threads->loop(1));
      journal.Write(std::to_string(i));
    });
  }
  const std::vector<std::string> lines = journal.WaitFor(100);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(lines[i], std::to_string(i));
}

}  // namespace
}  // namespace tfipu::serving::net
