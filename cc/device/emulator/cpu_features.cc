#include "cc/device/emulator/cpu_features.h"

#include <algorithm>
#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tfipu {
namespace {

#if defined(__x86_64__)

enum Register { kEax, kEbx, kEcx, kEdx };

// Vector registers that the operating system must save, or their instructions cannot be used.
enum class State { kNone, kAvx, kAvx512, kAmx };

struct Feature {
  const char* name;
  std::uint32_t leaf;
  std::uint32_t subleaf;
  Register reg;
  int bit;
  State state = State::kNone;
};

constexpr Feature kFeatures[] = {
    {"cx8", 1, 0, kEdx, 8},
    {"cmov", 1, 0, kEdx, 15},
    {"mmx", 1, 0, kEdx, 23},
    {"fxsr", 1, 0, kEdx, 24},
    {"sse", 1, 0, kEdx, 25},
    {"sse2", 1, 0, kEdx, 26},
    {"sse3", 1, 0, kEcx, 0},
    {"pclmul", 1, 0, kEcx, 1},
    {"ssse3", 1, 0, kEcx, 9},
    {"fma", 1, 0, kEcx, 12, State::kAvx},
    {"cx16", 1, 0, kEcx, 13},
    {"sse4.1", 1, 0, kEcx, 19},
    {"sse4.2", 1, 0, kEcx, 20},
    {"crc32", 1, 0, kEcx, 20},
    {"movbe", 1, 0, kEcx, 22},
    {"popcnt", 1, 0, kEcx, 23},
    {"aes", 1, 0, kEcx, 25},
    {"xsave", 1, 0, kEcx, 27},  // OSXSAVE: usable, not only present
    {"avx", 1, 0, kEcx, 28, State::kAvx},
    {"f16c", 1, 0, kEcx, 29, State::kAvx},
    {"rdrnd", 1, 0, kEcx, 30},
    {"fsgsbase", 7, 0, kEbx, 0},
    {"bmi", 7, 0, kEbx, 3},
    {"avx2", 7, 0, kEbx, 5, State::kAvx},
    {"bmi2", 7, 0, kEbx, 8},
    {"invpcid", 7, 0, kEbx, 10},
    {"avx512f", 7, 0, kEbx, 16, State::kAvx512},
    {"avx512dq", 7, 0, kEbx, 17, State::kAvx512},
    {"rdseed", 7, 0, kEbx, 18},
    {"adx", 7, 0, kEbx, 19},
    {"avx512ifma", 7, 0, kEbx, 21, State::kAvx512},
    {"clflushopt", 7, 0, kEbx, 23},
    {"clwb", 7, 0, kEbx, 24},
    {"avx512cd", 7, 0, kEbx, 28, State::kAvx512},
    {"sha", 7, 0, kEbx, 29},
    {"avx512bw", 7, 0, kEbx, 30, State::kAvx512},
    {"avx512vl", 7, 0, kEbx, 31, State::kAvx512},
    {"avx512vbmi", 7, 0, kEcx, 1, State::kAvx512},
    {"pku", 7, 0, kEcx, 4},
    {"avx512vbmi2", 7, 0, kEcx, 6, State::kAvx512},
    {"gfni", 7, 0, kEcx, 8},
    {"vaes", 7, 0, kEcx, 9, State::kAvx},
    {"vpclmulqdq", 7, 0, kEcx, 10, State::kAvx},
    {"avx512vnni", 7, 0, kEcx, 11, State::kAvx512},
    {"avx512bitalg", 7, 0, kEcx, 12, State::kAvx512},
    {"avx512vpopcntdq", 7, 0, kEcx, 14, State::kAvx512},
    {"rdpid", 7, 0, kEcx, 22},
    {"avx512vp2intersect", 7, 0, kEdx, 8, State::kAvx512},
    {"serialize", 7, 0, kEdx, 14},
    {"amx-bf16", 7, 0, kEdx, 22, State::kAmx},
    {"avx512fp16", 7, 0, kEdx, 23, State::kAvx512},
    {"amx-tile", 7, 0, kEdx, 24, State::kAmx},
    {"amx-int8", 7, 0, kEdx, 25, State::kAmx},
    {"avxvnni", 7, 1, kEax, 4, State::kAvx},
    {"avx512bf16", 7, 1, kEax, 5, State::kAvx512},
    {"amx-fp16", 7, 1, kEax, 21, State::kAmx},
    {"avxifma", 7, 1, kEax, 23, State::kAvx},
    {"avxvnniint8", 7, 1, kEdx, 4, State::kAvx},
    {"avxneconvert", 7, 1, kEdx, 5, State::kAvx},
    {"xsaveopt", 0xd, 1, kEax, 0},
    {"xsavec", 0xd, 1, kEax, 1},
    {"xsaves", 0xd, 1, kEax, 3},
    {"sahf", 0x80000001, 0, kEcx, 0},
    {"lzcnt", 0x80000001, 0, kEcx, 5},
    {"sse4a", 0x80000001, 0, kEcx, 6},
    {"prfchw", 0x80000001, 0, kEcx, 8},
    {"xop", 0x80000001, 0, kEcx, 11, State::kAvx},
    {"fma4", 0x80000001, 0, kEcx, 16, State::kAvx},
    {"tbm", 0x80000001, 0, kEcx, 21},
    {"mwaitx", 0x80000001, 0, kEcx, 29},
    {"64bit", 0x80000001, 0, kEdx, 29},
    {"clzero", 0x80000008, 0, kEbx, 0},
    {"wbnoinvd", 0x80000008, 0, kEbx, 9},
};

std::uint64_t SavedState() {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & (1u << 27)) == 0) return 0;
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

bool Saved(State state, std::uint64_t saved) {
  const auto all = [saved](std::uint64_t mask) { return (saved & mask) == mask; };
  switch (state) {
    case State::kNone:
      return true;
    case State::kAvx:
      return all(0x6);
    case State::kAvx512:
      return all(0xe6);
    case State::kAmx:
      return all(0x60000);
  }
  return false;
}

std::vector<std::string> Detect() {
  std::vector<std::string> features = {"x87"};
  const std::uint64_t saved = SavedState();
  for (const Feature& feature : kFeatures) {
    std::uint32_t registers[4] = {};
    if (__get_cpuid_count(feature.leaf, feature.subleaf, &registers[kEax], &registers[kEbx], &registers[kEcx],
                          &registers[kEdx]) &&
        ((registers[feature.reg] >> feature.bit) & 1) != 0 && Saved(feature.state, saved)) {
      features.push_back(feature.name);
    }
  }
  std::sort(features.begin(), features.end());
  return features;
}

#else

std::vector<std::string> Detect() { return {}; }

#endif

}  // namespace

const std::vector<std::string>& HostCpuFeatures() {
  static const auto* const features = new std::vector<std::string>(Detect());
  return *features;
}

}  // namespace tfipu
