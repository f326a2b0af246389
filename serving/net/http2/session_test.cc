#include "serving/net/http2/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <map>
#include <string>

#include "serving/net/http2/calls_peer.h"
#include "serving/net/http2/frames_for_test.h"

namespace tfipu::serving::net::http2 {
namespace {

using testing::HasSubstr;

struct Counts {
  std::map<int, int> frames;
  std::string data;
  std::vector<std::string> goaways;
};

Counts Parse(const std::string& bytes) {
  Counts counts;
  for (std::size_t at = 0; at + 9 <= bytes.size();) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(bytes[at + i]); };
    const std::size_t size = std::size_t{byte(0)} << 16 | byte(1) << 8 | byte(2);
    ++counts.frames[byte(3)];
    if (byte(3) == 0) counts.data += bytes.substr(at + 9, size);
    if (byte(3) == 7) counts.goaways.push_back(bytes.substr(at + 9, size));
    at += 9 + size;
  }
  return counts;
}

TEST(SessionTest, AnswersCalls) {
  ScriptedCalls server;
  ASSERT_TRUE(server.Receive(Preface() + Headers(1, "/t/Echo") + Data(1, Message("one"), true) +
                             Headers(3, "/t/Echo") + Data(3, Message("two"), true)));
  const Counts counts = Parse(server.Sent());
  EXPECT_EQ(counts.data, Message("one") + Message("two"));
  EXPECT_EQ(server.calls()->count(), 0);
}

TEST(SessionTest, AMethodThatThrowsCostsItsCall) {
  ScriptedCalls server;
  ASSERT_TRUE(server.Receive(Preface() + Headers(1, "/t/Throw") + Data(1, Message("x"), true) +
                             Headers(3, "/t/Echo") + Data(3, Message("two"), true)));
  EXPECT_EQ(Parse(server.Sent()).data, Message("two"));
  EXPECT_EQ(server.context().calls, 0);
}

TEST(SessionTest, MessagesOfAUnaryCallDoNotPileUp) {
  ScriptedCalls server(10 << 20);
  ASSERT_TRUE(server.Receive(Preface() + Headers(1, "/t/Echo")));
  for (int i = 0; i < 200; ++i) {
    if (!server.Receive(Data(1, Message(std::string(60000, 'x')), false))) break;
  }
  EXPECT_LT(server.account()->held(), 70000);
}

TEST(SessionTest, WithoutAWindowAStreamStops) {
  ScriptedCalls server(8 << 20);
  // The client's window for each stream is zero.
  ASSERT_TRUE(server.Receive("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
                             Frame(4, 0, 0, std::string("\0\4\0\0\0\0", 6)) + Headers(1, "/t/Stream")));
  std::string many;
  for (int i = 0; i < 300; ++i) many += Message(std::string(43, 'x'));
  bool alive = true;
  for (int i = 0; i < 100 && alive; ++i) alive = server.Receive(Data(1, many, false));
  // More than the window that it was given is an error of the stream.
  EXPECT_LT(server.account()->held(), 3 << 20);
  EXPECT_EQ(Parse(server.Sent()).data, "");
}

TEST(SessionTest, EndsInSteps) {
  ScriptedCalls server;
  ASSERT_TRUE(server.Receive(Preface() + Headers(1, "/t/Hold") + Data(1, Message("x"), true)));
  server.Sent();
  server.calls()->session()->AnnounceEnd();
  ASSERT_TRUE(server.Flush());
  std::string sent = server.Sent();
  EXPECT_EQ(Parse(sent).goaways.at(0).substr(0, 4), "\x7f\xff\xff\xff");
  const auto pong = [&] {
    const std::size_t ping = sent.find(std::string("\0\0\x08\x06\0\0\0\0\0", 9));
    ASSERT_NE(ping, std::string::npos);
    ASSERT_TRUE(server.Receive(Frame(6, 1, 0, sent.substr(ping + 9, 8))));
    sent = server.Sent();
  };
  pong();
  EXPECT_FALSE(server.end_seen());
  // One more call was on its way.
  ASSERT_TRUE(server.Receive(Headers(3, "/t/Echo") + Data(3, Message("late"), true)));
  EXPECT_EQ(Parse(server.Sent()).data, Message("late"));
  pong();
  EXPECT_TRUE(server.end_seen());
  EXPECT_EQ(Parse(sent).goaways.at(0).substr(0, 4), std::string("\0\0\0\3", 4));
  EXPECT_FALSE(server.calls()->session()->done());
  server.FinishHeld();
  EXPECT_EQ(Parse(server.Sent()).data, Message(""));
  EXPECT_TRUE(server.calls()->session()->done());
}

// What a client may send for ever is not what it may send.
TEST(SessionTest, FloodsEndTheConnection) {
  const std::map<std::string, std::string> floods = {
      {"ping", Frame(6, 0, 0, "12345678")},
      {"settings", Frame(4, 0, 0, "")},
      {"empty data", Data(1, "", false)},
      {"continuations", Frame(9, 0, 3, "")},
  };
  for (const auto& [name, frame] : floods) {
    ScriptedCalls server;
    ASSERT_TRUE(server.Receive(Preface() + Headers(1, "/t/Echo")));
    if (name == "continuations") server.Receive(Frame(1, 0, 3, ""));
    bool alive = true;
    for (int i = 0; i < 30000 && alive; ++i) {
      alive = server.Receive(frame) && !server.calls()->session()->done();
      if (i % 16 == 0) server.Sent();
    }
    EXPECT_FALSE(alive) << name;
  }
}

TEST(SessionTest, RapidResetEndsTheConnection) {
  ScriptedCalls server;
  ASSERT_TRUE(server.Receive(Preface()));
  bool alive = true;
  for (std::uint32_t id = 1; id < 100000 && alive; id += 2) {
    alive = server.Receive(Headers(id, "/t/Echo") + Frame(3, 0, id, std::string("\0\0\0\x08", 4))) &&
            !server.calls()->session()->done();
  }
  EXPECT_FALSE(alive);
  EXPECT_LT(server.account()->held(), 10000);
}

TEST(SessionTest, HeaderBombsCostTheirStream) {
  ScriptedCalls server;
  ASSERT_TRUE(server.Receive(Preface()));
  // A field of 4000 bytes in the dynamic table, and as many references to it as a frame takes.
  std::string bomb =
      "\x40\x01"
      "a\x7f\xa1\x1e" +
      std::string(4000, 'v') + std::string(10000, '\xbe');
  ASSERT_TRUE(server.Receive(Headers(1, "/t/Echo", 5, bomb)));
  EXPECT_LT(server.account()->held(), 100000);
  ASSERT_TRUE(server.Receive(Headers(3, "/t/Echo") + Data(3, Message("fine"), true)));
  EXPECT_EQ(Parse(server.Sent()).data, Message("fine"));
}

TEST(SessionTest, SlowReadersAreBounded) {
  ScriptedCalls server(1 << 20);
  const std::string window("\x7f\xff\xff\xff", 4);
  std::string settings("\0\4\x7f\xff\xff\xff", 6);
  ASSERT_TRUE(server.Receive("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, settings) +
                             Frame(8, 0, 0, std::string("\x7f\xff\0\0", 4))));
  // Nothing is read; calls whose answers do not fit are refused, and that is all.
  for (std::uint32_t id = 1; id < 201; id += 2) {
    ASSERT_TRUE(server.Receive(Headers(id, "/t/Echo") + Data(id, Message(std::string(16000, 'x')), true)));
  }
  EXPECT_LE(server.account()->held(), (1 << 20) + WritePump::kFull + (64 << 10));
}

}  // namespace
}  // namespace tfipu::serving::net::http2
