// What the CPU of this machine can do.
#ifndef CC_DEVICE_EMULATOR_CPU_FEATURES_H_
#define CC_DEVICE_EMULATOR_CPU_FEATURES_H_

#include <string>
#include <vector>

namespace tfipu {

// The instruction sets that this CPU has and this operating system lets programs use, by the names LLVM gives
// them
// ("avx2", "sse4.2"), sorted. Empty on other architectures than x86-64.
const std::vector<std::string>& HostCpuFeatures();

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_CPU_FEATURES_H_
