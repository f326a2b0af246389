#include "cc/device/backends.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "cc/executable/compatibility.h"
#include "cc/executable/test_executable.h"

namespace tfipu {
namespace {

using ::testing::HasSubstr;

// Knows no program, and says what it was asked.
class CountingBackend : public Backend {
 public:
  explicit CountingBackend(Target::KindCase kind) : kind_(kind) {}

  Target::KindCase kind() const override { return kind_; }
  absl::Status Check(const ExecutableHeader& header) override {
    ++checks;
    return verdict;
  }
  absl::StatusOr<std::shared_ptr<Program>> Load(std::shared_ptr<const Executable> executable) override {
    ++loads;
    return absl::UnimplementedError("no program");
  }
  std::vector<Offer> Offers() override {
    Offer offer;
    if (kind_ == Target::kIpu) offer.target.mutable_ipu();
    if (kind_ == Target::kPjrt) offer.target.mutable_pjrt();
    return {offer};
  }

  int checks = 0;
  int loads = 0;
  absl::Status verdict;

 private:
  const Target::KindCase kind_;
};

class BackendsTest : public ::testing::Test {
 protected:
  ~BackendsTest() override { unsetenv("TF_POPLAR_FLAGS"); }

  std::shared_ptr<const Executable> Open(const ExecutableHeader& changed) {
    ExecutableHeader header = changed;
    ExecutableWriter writer;
    AddTestBlobs(header, writer);
    const std::string path = TestPath("backends");
    EXPECT_EQ(writer.Write(header, path), absl::OkStatus());
    return *Executable::Open(path);
  }

  static ExecutableHeader PjrtHeader() {
    ExecutableHeader header = TestHeader();
    PjrtTarget& target = *header.mutable_target()->mutable_pjrt();
    target.set_platform("cpu");
    target.mutable_plugin()->set_sha256(std::string(32, 'x'));
    return header;
  }

  CountingBackend ipu_{Target::kIpu};
  CountingBackend pjrt_{Target::kPjrt};
};

TEST_F(BackendsTest, TheTargetsKindChoosesTheBackend) {
  const Backends backends({&ipu_, &pjrt_});
  EXPECT_EQ(backends.Load(Open(TestHeader())).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(backends.Load(Open(PjrtHeader())).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(ipu_.loads, 1);
  EXPECT_EQ(pjrt_.loads, 1);
  EXPECT_EQ(ipu_.checks, 1);
  EXPECT_EQ(pjrt_.checks, 1);
  ASSERT_EQ(backends.Offers().size(), 2);
  EXPECT_TRUE(backends.Offers()[0].target.has_ipu());
}

TEST_F(BackendsTest, AKindThatNothingRunsIsRefusedByName) {
  const Backends backends({&ipu_});
  const absl::Status status = backends.Load(Open(PjrtHeader())).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a device of kind 'pjrt', this runtime has ipu."));
}

TEST_F(BackendsTest, WhatTheBackendRefusesIsNotLoaded) {
  const Backends backends({&ipu_});
  ipu_.verdict = absl::InvalidArgumentError("it is for another device");
  EXPECT_EQ(backends.Load(Open(TestHeader())).status(), ipu_.verdict);
  EXPECT_EQ(ipu_.loads, 0);
}

TEST_F(BackendsTest, AnotherRuntimeHashIsRefusedUnlessTheFlagIsSet) {
  const Backends backends({&ipu_});
  ExecutableHeader header = TestHeader();
  header.mutable_build()->set_runtime_hash("0123456789abcdef");
  const absl::Status status = backends.Check(header);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  for (const std::string& part :
       {std::string("0123456789abcdef"), RuntimeBuild().runtime_hash(), std::string("Export the model")}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
  EXPECT_EQ(ipu_.checks, 0);
  setenv("TF_POPLAR_FLAGS", "--use_ipu_model --disable_poplar_version_check", 1);
  EXPECT_EQ(backends.Check(header), absl::OkStatus());
  setenv("TF_POPLAR_FLAGS", "--disable_poplar_version_checks", 1);
  EXPECT_FALSE(backends.Check(header).ok());
}

}  // namespace
}  // namespace tfipu
