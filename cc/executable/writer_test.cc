#include "cc/executable/writer.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cc/executable/executable.h"
#include "cc/executable/test_executable.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

using ::testing::HasSubstr;

class WriterTest : public ::testing::Test {
 protected:
  ~WriterTest() override { unlink(path_.c_str()); }

  const std::string path_ = TestPath("writer");
};

TEST_F(WriterTest, EqualInputGivesEqualFiles) { EXPECT_EQ(TestExecutableBytes(), TestExecutableBytes()); }

TEST_F(WriterTest, EqualBlobsAreKeptOnce) {
  ExecutableHeader header = TestHeader();
  ExecutableWriter writer;
  AddTestBlobs(header, writer);
  const std::string bytes(1 << 20, 'x');
  header.mutable_weights(0)->mutable_spec()->clear_dims();
  header.mutable_weights(0)->mutable_spec()->add_dims(bytes.size() / 4);
  *header.add_weights() = header.weights(0);
  ExecutableWriter once;
  for (Stage& stage : *header.mutable_stages()) {
    *stage.mutable_code() = once.AddBlob("same code");
    stage.clear_hlo();
  }
  for (Weight& weight : *header.mutable_weights()) *weight.mutable_blob() = once.AddBlob(bytes);
  ASSERT_TRUE(once.Write(header, path_).ok());
  EXPECT_LT(ReadBytes(path_).size(), bytes.size() + 16384);
  auto executable = Executable::Open(path_);
  ASSERT_TRUE(executable.ok()) << executable.status();
}

TEST_F(WriterTest, CopyWithAnotherHeaderKeepsTheBlobs) {
  WriteBytes(path_, TestExecutableBytes());
  auto original = Executable::Open(path_);
  ASSERT_TRUE(original.ok());
  ExecutableHeader header = (*original)->header();
  header.set_iterations(77);
  const std::string copy_path = path_ + ".copy";
  ASSERT_TRUE(WriteCopy(**original, header, copy_path).ok());
  auto copy = Executable::Open(copy_path);
  unlink(copy_path.c_str());
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ((*copy)->header().iterations(), 77);
  EXPECT_EQ((*copy)->header().weights(0).blob().sha256(), (*original)->header().weights(0).blob().sha256());
}

TEST_F(WriterTest, EmptyWeightsAreFine) {
  ExecutableHeader header = TestHeader();
  header.mutable_weights(0)->mutable_spec()->set_dims(0, 0);
  ExecutableWriter writer;
  AddTestBlobs(header, writer);
  ASSERT_TRUE(writer.Write(header, path_).ok());
  auto executable = Executable::Open(path_);
  ASSERT_TRUE(executable.ok()) << executable.status();
  EXPECT_TRUE((*executable)->blob((*executable)->header().weights(0).blob()).empty());
}

TEST_F(WriterTest, HeadersOfEverySizeAreWritten) {
  // Through sizes at which header and preamble fill one, two or three pages.
  for (std::size_t length = 3000; length < 11000; length += 61) {
    ExecutableHeader header = TestHeader();
    header.set_name(std::string(length, 'n'));
    ExecutableWriter writer;
    AddTestBlobs(header, writer);
    ASSERT_TRUE(writer.Write(header, path_).ok());
    auto executable = Executable::Open(path_);
    ASSERT_TRUE(executable.ok()) << length << ": " << executable.status();
  }
}

TEST_F(WriterTest, ForeignAndForgottenBlobsAreRefused) {
  ExecutableHeader header = TestHeader();
  ExecutableWriter first, second;
  AddTestBlobs(header, first);
  absl::Status status = second.Write(header, path_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("was not added"));

  first.AddBlob("nobody asks for this");
  status = first.Write(header, path_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no field of the header names it"));
}

TEST_F(WriterTest, InvalidHeadersAreNotWritten) {
  ExecutableHeader header = TestHeader();
  ExecutableWriter writer;
  AddTestBlobs(header, writer);
  header.set_iterations(0);
  const absl::Status status = writer.Write(header, path_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("iterations is 0"));
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
}

TEST_F(WriterTest, StringsThatAreNotUtf8AreRefused) {
  ExecutableHeader header = TestHeader();
  ExecutableWriter writer;
  AddTestBlobs(header, writer);
  header.set_name("\xff\xfe");
  EXPECT_EQ(writer.Write(header, path_).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(WriterTest, ErrorsNameThePathAndLeaveNothingBehind) {
  ExecutableHeader header = TestHeader();
  ExecutableWriter writer;
  AddTestBlobs(header, writer);
  const absl::Status status = writer.Write(header, path_ + ".missing/file");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr(path_ + ".missing/file"));

  // A folder in the way: the last step, the rename, fails.
  const std::string folder = path_ + ".folder";
  ASSERT_EQ(mkdir(folder.c_str(), 0777), 0);
  ASSERT_EQ(mkdir((folder + "/target").c_str(), 0777), 0);
  EXPECT_FALSE(writer.Write(header, folder + "/target").ok());
  int entries = 0;
  DIR* listing = opendir(folder.c_str());
  while (readdir(listing) != nullptr) ++entries;
  closedir(listing);
  EXPECT_EQ(entries, 3);  // ".", ".." and "target"
  rmdir((folder + "/target").c_str());
  rmdir(folder.c_str());
}

}  // namespace
}  // namespace tfipu
