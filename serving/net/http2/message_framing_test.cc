#include "serving/net/http2/message_framing.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tfipu::serving::net::http2 {
namespace {

std::string Framed(std::string_view message, bool compressed = false) {
  std::string framed(kMessagePrefix, '\0');
  WriteMessagePrefix(framed.data(), compressed, message.size());
  return framed.append(message);
}

TEST(MessageReader, FindsMessagesHoweverTheyAreCut) {
  const std::vector<std::string> wanted = {"", "a", std::string(3000000, 'x'), "last"};
  std::string stream;
  for (const std::string& message : wanted) stream += Framed(message, message == "a");
  for (std::size_t cut : {std::size_t{1}, std::size_t{7}, std::size_t{16384}, stream.size()}) {
    if (cut == 1) stream = Framed(wanted[0]) + Framed(wanted[1], true) + Framed(std::string(1000, 'x'));
    MessageReader reader(nullptr, 3000000);
    std::vector<std::string> got;
    std::vector<bool> packed;
    for (std::size_t at = 0; at < stream.size(); at += cut) {
      std::string_view data = std::string_view(stream).substr(at, cut);
      while (!data.empty()) {
        const auto result = reader.Add(&data);
        ASSERT_NE(result, MessageReader::Result::kTooLarge);
        if (result != MessageReader::Result::kMessage) continue;
        bool compressed;
        got.emplace_back(reader.TakeMessage(&compressed).view());
        packed.push_back(compressed);
      }
    }
    EXPECT_FALSE(reader.partial());
    if (cut == 1) {
      EXPECT_EQ(got.size(), 3u);
      stream.clear();
      for (const std::string& message : wanted) stream += Framed(message, message == "a");
    } else {
      EXPECT_EQ(got, wanted);
      EXPECT_EQ(packed, (std::vector<bool>{false, true, false, false}));
    }
  }
}

TEST(MessageReader, RefusesByThePrefix) {
  MessageReader reader(nullptr, 10);
  std::string framed = Framed("12345678901");
  std::string_view prefix = std::string_view(framed).substr(0, kMessagePrefix);
  EXPECT_EQ(reader.Add(&prefix), MessageReader::Result::kTooLarge);
  // Four gigabytes announced, none sent.
  MessageReader huge(nullptr, 0xffffffff);
  std::string_view four = std::string_view("\0\xff\xff\xff\xff", 5);
  EXPECT_EQ(huge.Add(&four), MessageReader::Result::kIncomplete);
  EXPECT_TRUE(huge.partial());
}

TEST(MessageReader, AsksItsAccount) {
  MemoryAccount account(nullptr, 1 << 20);
  MessageReader reader(&account, 10 << 20);
  const std::string framed = Framed(std::string(3 << 20, 'x'));
  std::string_view data = framed;
  EXPECT_EQ(reader.Add(&data), MessageReader::Result::kNoMemory);
  reader.Clear();
  EXPECT_EQ(account.held(), 0);
}

TEST(Timeout, HasSixUnits) {
  EXPECT_EQ(ParseTimeout("2H"), 7200000000);
  EXPECT_EQ(ParseTimeout("2M"), 120000000);
  EXPECT_EQ(ParseTimeout("2S"), 2000000);
  EXPECT_EQ(ParseTimeout("2m"), 2000);
  EXPECT_EQ(ParseTimeout("2u"), 2);
  EXPECT_EQ(ParseTimeout("2000n"), 2);
  EXPECT_EQ(ParseTimeout("99999999H"), 99999999 * INT64_C(3600000000));
  for (const char* wrong : {"", "S", "2", "2x", "-2S", "999999999S", "1.5S"})
    EXPECT_FALSE(ParseTimeout(wrong)) << wrong;
}

TEST(StatusMessage, IsPercentEncoded) { EXPECT_EQ(PercentEncode("100% of\n\xc3\xa9"), "100%25 of%0A%C3%A9"); }

}  // namespace
}  // namespace tfipu::serving::net::http2
