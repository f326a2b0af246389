// Whether an executable may run here: versions, device and CPU. The written policy is docs/compatibility.md.
#ifndef CC_EXECUTABLE_COMPATIBILITY_H_
#define CC_EXECUTABLE_COMPATIBILITY_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// What runs in this process: versions of TensorFlow and this package, the target, and the CPU's features.
struct RuntimeIdentity {
  Build build;
  Target target;                           // type, cpu_features of this machine, remote_buffers
  std::vector<std::string> architectures;  // those that can be run

  static const RuntimeIdentity& Current();
};

// OK, or InvalidArgument that names the first difference, what was found in the executable, what is expected
// here and what to do about it. Compared: TensorFlow's major.minor and git version, the runtime hash, target
// type and architecture, remote buffers, CPU features. `check_runtime_hash` is false under
// TF_POPLAR_FLAGS=--disable_poplar_version_check.
absl::Status CheckCompatibility(const ExecutableHeader& header, const RuntimeIdentity& runtime,
                                bool check_runtime_hash = true);

// True unless TF_POPLAR_FLAGS holds --disable_poplar_version_check.
bool RuntimeHashCheckEnabled();

}  // namespace tfipu

#endif  // CC_EXECUTABLE_COMPATIBILITY_H_
