#include "cc/executable/executable.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "cc/executable/format.h"
#include "cc/executable/test_executable.h"
#include "cc/executable/validate.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

class ExecutableTest : public ::testing::Test {
 protected:
  ~ExecutableTest() override {
    if (descriptor_ >= 0) close(descriptor_);
    unlink(path_.c_str());
    rmdir(path_.c_str());
  }

  absl::Status OpenBytes(const std::string& bytes) {
    WriteBytes(path_, bytes);
    return Executable::Open(path_).status();
  }

  // Opens the good file with one byte changed.
  absl::Status OpenChanged(std::uint64_t at, char mask) {
    if (descriptor_ < 0) {
      WriteBytes(path_, good_);
      descriptor_ = open(path_.c_str(), O_RDWR);
    }
    const char changed = static_cast<char>(good_[at] ^ mask);
    EXPECT_EQ(pwrite(descriptor_, &changed, 1, at), 1);
    const absl::Status status = Executable::Open(path_).status();
    EXPECT_EQ(pwrite(descriptor_, &good_[at], 1, at), 1);
    return status;
  }

  static std::uint64_t HeaderEnd(const std::string& bytes) {
    return kPreambleSize + *ParsePreamble(bytes.substr(0, kPreambleSize));
  }

  const std::string path_ = TestPath("executable");
  const std::string good_ = TestExecutableBytes();
  int descriptor_ = -1;
};

TEST_F(ExecutableTest, WhatIsWrittenIsRead) {
  ASSERT_FALSE(good_.empty());
  WriteBytes(path_, good_);
  auto executable = Executable::Open(path_);
  ASSERT_TRUE(executable.ok()) << executable.status();
  const ExecutableHeader& header = (*executable)->header();
  EXPECT_EQ(header.name(), "test");
  EXPECT_EQ((*executable)->path(), path_);
  EXPECT_EQ((*executable)->digest().size(), 64);
  EXPECT_EQ(header.file_size(), good_.size());
  for (const Stage& stage : header.stages()) {
    const ConstBuffer code = (*executable)->blob(stage.code());
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(code.data()), code.size()),
              "code of " + stage.name());
    EXPECT_TRUE(IsAligned(code.data()));
    EXPECT_TRUE(IsAligned((*executable)->blob(stage.hlo()).data()));
  }
  const ConstBuffer weight = (*executable)->blob(header.weights(0).blob());
  EXPECT_EQ(weight.size(), 8 * 4096 * 4);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(weight.data()) % kPageSize, 0);
  EXPECT_EQ(weight[weight.size() - 1], std::byte{'w'});
}

TEST_F(ExecutableTest, NoFlippedBitOfPreambleOrHeaderGoesUnnoticed) {
  const std::uint64_t end = HeaderEnd(good_);
  for (std::uint64_t at = 0; at < end; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      const absl::Status status = OpenChanged(at, static_cast<char>(1 << bit));
      EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kDataLoss, absl::StatusCode::kUnimplemented))
          << "byte " << at << " bit " << bit << ": " << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("expected"));
    }
  }
  EXPECT_TRUE(Executable::Open(path_).ok());
}

TEST_F(ExecutableTest, NoChangedByteBehindTheHeaderGoesUnnoticed) {
  std::mt19937 random(1);
  const std::uint64_t end = HeaderEnd(good_);
  std::vector<std::uint64_t> places = {end, good_.size() - 1};
  for (int i = 0; i < 2000; ++i) places.push_back(end + random() % (good_.size() - end));
  for (std::uint64_t at : places) {
    const absl::Status status = OpenChanged(at, static_cast<char>(1 << (random() % 8)));
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << "byte " << at << ": " << status;
  }
}

TEST_F(ExecutableTest, SampledBytesOfEachBlobAreCovered) {
  WriteBytes(path_, good_);
  const ExecutableHeader header = (*Executable::Open(path_))->header();
  ForEachBlob(header, [&](const std::string& name, const Blob& blob) {
    for (std::uint64_t at :
         {blob.offset(), blob.offset() + blob.size() / 2, blob.offset() + blob.size() - 1}) {
      const absl::Status status = OpenChanged(at, 1);
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << name << ": " << status;
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr(absl::StrCat("at offset ", blob.offset(), " are damaged")));
    }
  });
}

TEST_F(ExecutableTest, FileThatWasCutShortIsRefused) {
  std::vector<std::size_t> lengths;
  for (std::size_t length = 0; length < HeaderEnd(good_) + 100; ++length) lengths.push_back(length);
  for (std::size_t length = HeaderEnd(good_) + 100; length < good_.size(); length += 997)
    lengths.push_back(length);
  lengths.push_back(good_.size() - 1);
  for (std::size_t length : lengths) {
    const absl::Status status = OpenBytes(good_.substr(0, length));
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << length << " bytes: " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("cut short")) << length;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("found ", length, " bytes"))) << length;
  }
}

TEST_F(ExecutableTest, AppendedBytesAreRefused) {
  for (const std::string& tail : {std::string(1, '\0'), std::string("x"), good_}) {
    const absl::Status status = OpenBytes(good_ + tail);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("something was appended"));
  }
}

TEST_F(ExecutableTest, ForeignFilesAreNamedAsSuch) {
  for (const std::string& start :
       {std::string("\x7f"
                    "ELF\2\1\1"),
        std::string("PK\3\4"), std::string("{\"json\": 1}"), std::string("\x89PNG\r\n\x1a\n")}) {
    const absl::Status status = OpenBytes(start + std::string(1000, ' '));
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("not an executable"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
  }
}

TEST_F(ExecutableTest, TextModeTransferIsRefused) {
  std::string bytes = good_;
  bytes.erase(6, 1);  // the carriage return
  EXPECT_EQ(OpenBytes(bytes).code(), absl::StatusCode::kDataLoss);
}

TEST_F(ExecutableTest, OtherFormatVersionsAreUnimplementedAndNamed) {
  for (int version : {0, 1, 3, 255}) {
    std::string bytes = good_;
    bytes[8] = static_cast<char>(version);
    const absl::Status status = OpenBytes(bytes);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("found format version ", version)));
    EXPECT_THAT(std::string(status.message()), HasSubstr("expected version 2"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("Export the model again"));
  }
}

TEST_F(ExecutableTest, MissingFileIsNotFound) {
  const absl::Status status = Executable::Open(path_ + ".missing").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr(path_ + ".missing"));
}

TEST_F(ExecutableTest, EmptyFileFolderAndFifoAreRefusedWithoutWaiting) {
  EXPECT_EQ(OpenBytes("").code(), absl::StatusCode::kDataLoss);
  unlink(path_.c_str());

  ASSERT_EQ(mkdir(path_.c_str(), 0777), 0);
  absl::Status status = Executable::Open(path_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a directory"));
  rmdir(path_.c_str());

  ASSERT_EQ(mkfifo(path_.c_str(), 0666), 0);
  status = Executable::Open(path_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("not a regular file"));
  unlink(path_.c_str());

  EXPECT_EQ(Executable::Open("/dev/zero").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(Executable::Open(std::string(5000, 'x')).ok());
  EXPECT_FALSE(Executable::Open("").ok());
}

TEST_F(ExecutableTest, HeaderSizeBeyondTheFileIsRefused) {
  for (std::uint64_t size : {std::uint64_t{0}, std::uint64_t{good_.size()}, std::uint64_t{1} << 26,
                             (std::uint64_t{1} << 26) + 1, ~std::uint64_t{0}, ~std::uint64_t{0} - 63}) {
    std::string bytes = good_;
    for (int i = 0; i < 8; ++i) bytes[16 + i] = static_cast<char>(size >> (8 * i));
    EXPECT_EQ(OpenBytes(bytes).code(), absl::StatusCode::kDataLoss) << size;
  }
}

TEST_F(ExecutableTest, GarbageUnderAGoodChecksumIsRefused) {
  std::mt19937 random(2);
  for (int i = 0; i < 500; ++i) {
    std::string header(1 + random() % 300, '\0');
    for (char& byte : header) byte = static_cast<char>(random());
    EXPECT_EQ(OpenBytes(MakePreamble(header) + header).code(), absl::StatusCode::kDataLoss);
  }
}

// Each places blobs where no honest writer does, under good checksums.
TEST_F(ExecutableTest, ForgedBlobPlacesAreRefused) {
  WriteBytes(path_, good_);
  const ExecutableHeader good = (*Executable::Open(path_))->header();
  const std::string rest = good_.substr(HeaderEnd(good_));
  struct Case {
    const char* expected;
    std::function<void(ExecutableHeader&)> forge;
  };
  const std::uint64_t top = ~std::uint64_t{0};
  const Case cases[] = {
      {"stages[0].code takes",
       [&](ExecutableHeader& h) { h.mutable_stages(0)->mutable_code()->set_offset(top - 63); }},
      {"stages[0].code takes",
       [&](ExecutableHeader& h) { h.mutable_stages(0)->mutable_code()->set_size(top); }},
      {"stages[0].code takes",
       [&](ExecutableHeader& h) { h.mutable_stages(0)->mutable_code()->set_size(top - 4095); }},
      {"stages[1].hlo takes",
       [&](ExecutableHeader& h) { h.mutable_stages(1)->mutable_hlo()->set_offset(0); }},
      {"multiple of 64",
       [&](ExecutableHeader& h) {
         Blob* code = h.mutable_stages(0)->mutable_code();
         code->set_offset(code->offset() + 1);
       }},
      {"overlaps",
       [&](ExecutableHeader& h) {
         Blob* code = h.mutable_stages(1)->mutable_code();
         code->set_offset(h.weights(0).blob().offset() + 64);
       }},
      {"different checksums",
       [&](ExecutableHeader& h) {
         *h.mutable_stages(1)->mutable_code() = h.stages(0).code();
         (*h.mutable_stages(1)->mutable_code()->mutable_sha256())[0] ^= 1;
       }},
      {"sha256 has 31 bytes",
       [&](ExecutableHeader& h) { h.mutable_stages(0)->mutable_code()->mutable_sha256()->pop_back(); }},
      {"belong to nothing", [&](ExecutableHeader& h) { h.mutable_stages(1)->clear_hlo(); }},
      {"weights[0].blob.size is",
       [&](ExecutableHeader& h) { h.mutable_weights(0)->mutable_blob()->set_size(64); }},
  };
  for (const Case& c : cases) {
    ExecutableHeader header = good;
    c.forge(header);
    // The gap between header and blobs takes up what the header grew or shrank.
    std::string bytes = ForgedBytes(header, "");
    ASSERT_LE(bytes.size(), kPageSize);
    bytes.resize(kPageSize, '\0');
    bytes += good_.substr(kPageSize);
    const absl::Status status = OpenBytes(bytes);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << c.expected;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.expected));
  }
}

TEST_F(ExecutableTest, OpeningAnUnchangedFileAgainSharesItsBytes) {
  WriteBytes(path_, good_);
  auto first = Executable::Open(path_);
  auto second = Executable::Open(path_);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->get(), second->get());
}

TEST_F(ExecutableTest, AnotherFileUnderTheSameNameIsReadAnew) {
  WriteBytes(path_, good_);
  auto first = Executable::Open(path_);
  ExecutableHeader header = TestHeader();
  header.set_name("tes2");  // the same size
  ExecutableWriter writer;
  AddTestBlobs(header, writer);
  ASSERT_TRUE(writer.Write(header, path_).ok());
  auto second = Executable::Open(path_);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ((*first)->header().name(), "test");
  EXPECT_EQ((*second)->header().name(), "tes2");
  EXPECT_NE((*first)->digest(), (*second)->digest());
}

TEST_F(ExecutableTest, TruncatingAnOpenFileHarmsNobody) {
  WriteBytes(path_, good_);
  auto executable = Executable::Open(path_);
  ASSERT_TRUE(executable.ok());
  ASSERT_EQ(truncate(path_.c_str(), 0), 0);
  const ConstBuffer weight = (*executable)->blob((*executable)->header().weights(0).blob());
  EXPECT_EQ(weight[weight.size() - 1], std::byte{'w'});
  EXPECT_FALSE(Executable::Open(path_).ok());
}

TEST_F(ExecutableTest, LargeFilesAreVerifiedByAllThreads) {
  ExecutableHeader header = TestHeader();
  header.mutable_weights(0)->mutable_spec()->set_dims(1, 32 * 4096);
  for (int i = 0; i < 6; ++i) *header.add_weights() = header.weights(0);
  ExecutableWriter writer;
  for (Stage& stage : *header.mutable_stages())
    *stage.mutable_code() = writer.AddBlob("code of " + stage.name());
  for (int i = 0; i < header.weights_size(); ++i) {
    *header.mutable_weights(i)->mutable_blob() =
        writer.AddBlob(std::string(*TensorSize(header.weights(i).spec()), static_cast<char>('a' + i)));
  }
  ASSERT_TRUE(writer.Write(header, path_).ok());
  std::string bytes = ReadBytes(path_);
  {
    auto executable = Executable::Open(path_);
    ASSERT_TRUE(executable.ok()) << executable.status();
    header = (*executable)->header();
    for (int i = 0; i < header.weights_size(); ++i) {
      const ConstBuffer weight = (*executable)->blob(header.weights(i).blob());
      EXPECT_EQ(weight[weight.size() - 1], std::byte(static_cast<unsigned char>('a' + i)));
    }
  }
  // Two are damaged: the first of them is named, whichever thread finds its own first.
  for (int i : {2, 5}) bytes[header.weights(i).blob().offset() + 1000] ^= 1;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const absl::Status status = OpenBytes(bytes);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  }
}

TEST_F(ExecutableTest, ManyThreadsOpenAtOnce) {
  WriteBytes(path_, good_);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) EXPECT_TRUE(Executable::Open(path_).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ExecutableTest, BlobOutsideTheFileIsEmpty) {
  WriteBytes(path_, good_);
  auto executable = Executable::Open(path_);
  ASSERT_TRUE(executable.ok());
  Blob blob;
  blob.set_offset(~std::uint64_t{0} - 10);
  blob.set_size(100);
  EXPECT_TRUE((*executable)->blob(blob).empty());
}

}  // namespace
}  // namespace tfipu
