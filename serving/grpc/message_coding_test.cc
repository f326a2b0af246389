#include "serving/grpc/message_coding.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tfipu::serving {
namespace {

std::string Framed(std::string_view message, bool compressed = false) {
  std::string framed(kMessagePrefix, '\0');
  WriteMessagePrefix(framed.data(), compressed, message.size());
  return framed.append(message);
}
std::string Text(const Bytes& bytes) { return {bytes.data.get(), bytes.size}; }

TEST(MessageAssembler, FindsMessagesHoweverTheyAreCut) {
  const std::vector<std::string> wanted = {"", "a", std::string(3000000, 'x'), "last"};
  std::string stream;
  for (const std::string& message : wanted) stream += Framed(message, message == "a");
  for (std::size_t cut : {std::size_t{1}, std::size_t{7}, std::size_t{16384}, stream.size()}) {
    if (cut == 1) stream = Framed(wanted[0]) + Framed(wanted[1], true) + Framed(std::string(1000, 'x'));
    MessageAssembler assembler(3000000);
    std::vector<std::string> got;
    std::vector<bool> packed;
    for (std::size_t at = 0; at < stream.size(); at += cut) {
      std::string_view data = std::string_view(stream).substr(at, cut);
      while (!data.empty()) {
        const auto result = assembler.Add(&data);
        ASSERT_NE(result, MessageAssembler::Result::kTooLarge);
        if (result != MessageAssembler::Result::kMessage) continue;
        bool compressed;
        got.push_back(Text(assembler.TakeMessage(&compressed)));
        packed.push_back(compressed);
      }
    }
    EXPECT_FALSE(assembler.partial());
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

TEST(MessageAssembler, RefusesByThePrefix) {
  MessageAssembler assembler(10);
  std::string framed = Framed("12345678901");
  std::string_view prefix = std::string_view(framed).substr(0, kMessagePrefix);
  EXPECT_EQ(assembler.Add(&prefix), MessageAssembler::Result::kTooLarge);
  // Four gigabytes announced, none sent.
  MessageAssembler huge(0xffffffff);
  std::string_view four = std::string_view("\0\xff\xff\xff\xff", 5);
  EXPECT_EQ(huge.Add(&four), MessageAssembler::Result::kIncomplete);
  EXPECT_TRUE(huge.partial());
}

TEST(Compression, ComesBack) {
  std::string message;
  for (int i = 0; i < 20000; ++i) message += "line " + std::to_string(i % 17);
  for (MessageEncoding encoding : {MessageEncoding::kDeflate, MessageEncoding::kGzip}) {
    EXPECT_EQ(EncodingOf(EncodingName(encoding)), encoding);
    auto packed = CompressWithPrefix(encoding, message);
    ASSERT_TRUE(packed);
    EXPECT_LT(packed->size, message.size() / 4);
    const std::string_view body(packed->data.get() + kMessagePrefix, packed->size - kMessagePrefix);
    bool too_large = false;
    auto plain = Decompress(encoding, body, message.size(), &too_large);
    ASSERT_TRUE(plain);
    EXPECT_EQ(Text(*plain), message);
    EXPECT_FALSE(Decompress(encoding, body, message.size() - 1, &too_large));
    EXPECT_TRUE(too_large);
    EXPECT_FALSE(Decompress(encoding, body.substr(0, body.size() / 2), message.size(), &too_large));
    EXPECT_FALSE(too_large);
    EXPECT_FALSE(Decompress(encoding, "no such thing", 1000, &too_large));
    EXPECT_FALSE(Decompress(encoding, "", 1000, &too_large));
  }
  EXPECT_FALSE(CompressWithPrefix(MessageEncoding::kGzip, "short"));
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
}  // namespace tfipu::serving
