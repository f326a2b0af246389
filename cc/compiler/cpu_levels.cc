#include "cc/compiler/cpu_levels.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace tfipu {
namespace {

// Each adds its features to those of the CPU it builds on. The levels are those of the x86-64 psABI; the
// others are the servers that are common in data centres.
struct Cpu {
  const char* name;
  const char* base;
  const char* features;
};

constexpr Cpu kCpus[] = {
    {"x86-64", "", "cmov cx8 fxsr mmx sse sse2"},
    {"x86-64-v2", "x86-64", "crc32 cx16 popcnt sse3 sse4.1 sse4.2 ssse3"},
    {"x86-64-v3", "x86-64-v2", "avx avx2 bmi bmi2 f16c fma movbe xsave"},
    {"x86-64-v4", "x86-64-v3", "avx512bw avx512cd avx512dq avx512f avx512vl"},
    {"haswell", "x86-64-v3", "fsgsbase invpcid pclmul rdrnd"},
    {"skylake", "haswell", "adx aes clflushopt rdseed"},
    {"skylake-avx512", "skylake", "avx512bw avx512cd avx512dq avx512f avx512vl clwb pku"},
    {"cascadelake", "skylake-avx512", "avx512vnni"},
    {"icelake-server", "cascadelake",
     "avx512bitalg avx512ifma avx512vbmi avx512vbmi2 avx512vpopcntdq gfni rdpid sha vaes vpclmulqdq"},
    {"znver2", "x86-64-v3", "adx aes clflushopt clwb fsgsbase pclmul rdpid rdrnd rdseed sha"},
    {"znver3", "znver2", "invpcid pku vaes vpclmulqdq"},
    {"znver4", "znver3",
     "avx512bitalg avx512bw avx512cd avx512dq avx512f avx512ifma avx512vbmi avx512vbmi2 avx512vl avx512vnni "
     "avx512vpopcntdq gfni"},
};

const Cpu* Find(absl::string_view name) {
  for (const Cpu& cpu : kCpus) {
    if (cpu.name == name) return &cpu;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> CpuFeatures(absl::string_view name) {
  const Cpu* cpu = Find(name);
  if (cpu == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Code cannot be generated for a CPU named '", name, "', expected one of ",
        absl::StrJoin(kCpus, ", ",
                      [](std::string* out, const Cpu& known) { absl::StrAppend(out, known.name); })));
  }
  std::vector<std::string> features;
  for (; cpu != nullptr; cpu = Find(cpu->base)) {
    for (absl::string_view feature : absl::StrSplit(cpu->features, ' ')) features.emplace_back(feature);
  }
  std::sort(features.begin(), features.end());
  return features;
}

}  // namespace tfipu
