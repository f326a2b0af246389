// Whether the emulator runs what an executable was compiled for.
#ifndef CC_DEVICE_EMULATOR_IPU_COMPATIBILITY_H_
#define CC_DEVICE_EMULATOR_IPU_COMPATIBILITY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// What emulates IPUs in this process: the build, TensorFlow among it, whose XLA must be the one that made the
// code, and the CPU's features.
struct IpuIdentity {
  Build build;
  IpuTarget target;                        // type, cpu_features of this machine, remote_buffers
  std::vector<std::string> architectures;  // those that can be run

  static const IpuIdentity& Current();
};

// OK, or InvalidArgument that names the first difference, what was found in the executable, what is expected
// here and what to do about it. Compared: TensorFlow's major.minor and git version, target type and
// architecture, remote buffers, CPU features. The header's target is an IPU's.
absl::Status CheckIpuCompatibility(const ExecutableHeader& header, const IpuIdentity& runtime);

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_IPU_COMPATIBILITY_H_
