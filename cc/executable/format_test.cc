#include "cc/executable/format.h"

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

// The bytes are the format: a change here needs another format version.
TEST(FormatTest, PreambleIsWhatVersionTwoSays) {
  const std::string preamble = MakePreamble("header");
  EXPECT_EQ(absl::BytesToHexString(preamble.substr(0, 32)),
            "8954464950550d0a"
            "0200000000000000"
            "0600000000000000"
            "0000000000000000");
  EXPECT_EQ(preamble.size(), 64);
  EXPECT_EQ(preamble.substr(32), HeaderDigest(preamble, "header"));
  EXPECT_EQ(*ParsePreamble(preamble), 6);
}

TEST(FormatTest, DigestCoversThePreambleToo) {
  std::string preamble = MakePreamble("header");
  const std::string digest = HeaderDigest(preamble, "header");
  preamble[9] = 1;
  EXPECT_NE(HeaderDigest(preamble, "header"), digest);
}

TEST(FormatTest, LayoutHasNoGaps) {
  ExecutableHeader header;
  Stage* stage = header.add_stages();
  stage->mutable_code()->set_offset(4096);
  stage->mutable_code()->set_size(10);
  stage->mutable_code()->set_sha256(std::string(32, 'x'));
  *stage->mutable_hlo() = stage->code();
  stage->mutable_hlo()->set_offset(4160);
  header.set_file_size(5000);
  const auto layout = Layout(header, 1000);
  ASSERT_TRUE(layout.ok()) << layout.status();
  std::uint64_t end = 1000;
  int blobs = 0;
  for (const Extent& extent : *layout) {
    EXPECT_EQ(extent.offset, end);
    end += extent.size;
    blobs += extent.blob != nullptr;
  }
  EXPECT_EQ(end, 5000);
  EXPECT_EQ(blobs, 2);
}

}  // namespace
}  // namespace tfipu
