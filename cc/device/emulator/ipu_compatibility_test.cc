#include "cc/device/emulator/ipu_compatibility.h"

#include <functional>

#include "cc/device/emulator/cpu_features.h"
#include "cc/executable/test_executable.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

TEST(IpuCompatibilityTest, CurrentIdentityIsComplete) {
  const IpuIdentity& identity = IpuIdentity::Current();
  EXPECT_EQ(identity.build.tensorflow_version(), "2.21.0");
  EXPECT_THAT(identity.build.tensorflow_git_version(), HasSubstr("2.21.0"));
  EXPECT_FALSE(identity.build.runtime_version().empty());
  EXPECT_EQ(identity.build.runtime_hash().size(), 16);
  EXPECT_EQ(identity.target.type(), IpuTarget::IPU_MODEL);
}

TEST(IpuCompatibilityTest, WhatIsMadeHereRunsHere) {
  EXPECT_EQ(CheckIpuCompatibility(TestHeader(), IpuIdentity::Current()), absl::OkStatus());
}

#if defined(__x86_64__)
TEST(IpuCompatibilityTest, FeaturesOfThisCpuAgreeWithTheCompilersView) {
  const auto& features = HostCpuFeatures();
  EXPECT_THAT(features, Contains("sse2"));
  __builtin_cpu_init();
  const auto check = [&](const char* name, bool has) {
    EXPECT_EQ(std::count(features.begin(), features.end(), name), has ? 1 : 0) << name;
  };
  check("sse4.2", __builtin_cpu_supports("sse4.2"));
  check("popcnt", __builtin_cpu_supports("popcnt"));
  check("avx", __builtin_cpu_supports("avx"));
  check("avx2", __builtin_cpu_supports("avx2"));
  check("fma", __builtin_cpu_supports("fma"));
  check("bmi", __builtin_cpu_supports("bmi"));
  check("bmi2", __builtin_cpu_supports("bmi2"));
  check("avx512f", __builtin_cpu_supports("avx512f"));
  check("avx512vl", __builtin_cpu_supports("avx512vl"));
  check("avx512vnni", __builtin_cpu_supports("avx512vnni"));
  check("gfni", __builtin_cpu_supports("gfni"));
}
#endif

TEST(IpuCompatibilityTest, EachRefusalNamesBothSides) {
  using H = ExecutableHeader;
  struct Case {
    const char* found;
    const char* expected;
    std::function<void(H&)> change;
  };
  const Build& here = IpuIdentity::Current().build;
  const Case cases[] = {
      {"2.20.1", "2.21.0", [](H& h) { h.mutable_build()->set_tensorflow_version("2.20.1"); }},
      {"3", "2.21.0", [](H& h) { h.mutable_build()->set_tensorflow_version("3"); }},
      {"TensorFlow ", "2.21.0", [](H& h) { h.mutable_build()->clear_tensorflow_version(); }},
      {"v2.21.0-other", here.tensorflow_git_version().c_str(),
       [](H& h) { h.mutable_build()->set_tensorflow_git_version("v2.21.0-other"); }},
      {"IPU,", "IPU_MODEL", [](H& h) { h.mutable_target()->mutable_ipu()->set_type(IpuTarget::IPU); }},
      {"'ipu9'", "ipu1, ipu2, ipu21",
       [](H& h) { h.mutable_target()->mutable_ipu()->set_architecture("ipu9"); }},
      {"uses nonsense-512, other", "sse2",
       [](H& h) {
         h.mutable_target()->mutable_ipu()->add_cpu_features("nonsense-512");
         h.mutable_target()->mutable_ipu()->add_cpu_features("other");
       }},
  };
  for (const Case& c : cases) {
    ExecutableHeader header = TestHeader();
    c.change(header);
    const absl::Status status = CheckIpuCompatibility(header, IpuIdentity::Current());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.found;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.found));
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.expected));
    EXPECT_THAT(std::string(status.message()), HasSubstr("Export the model"));
  }
}

TEST(IpuCompatibilityTest, PatchReleasesOfTensorFlowAreAlike) {
  ExecutableHeader header = TestHeader();
  header.mutable_build()->set_tensorflow_version("2.21.7");
  EXPECT_EQ(CheckIpuCompatibility(header, IpuIdentity::Current()), absl::OkStatus());
}

TEST(IpuCompatibilityTest, RemoteBuffersNeedADeviceThatHasThem) {
  ExecutableHeader header = TestHeader();
  header.mutable_target()->mutable_ipu()->set_remote_buffers(true);
  IpuIdentity runtime = IpuIdentity::Current();
  EXPECT_EQ(CheckIpuCompatibility(header, runtime), absl::OkStatus());
  runtime.target.set_remote_buffers(false);
  EXPECT_THAT(std::string(CheckIpuCompatibility(header, runtime).message()), HasSubstr("remote buffers"));
}

}  // namespace
}  // namespace tfipu
