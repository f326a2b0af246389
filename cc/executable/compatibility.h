// Whether this build understands an executable, and the words in which one is refused. What its target needs
// is for the backend of that kind to check (cc/device/device.h). The written policy is docs/compatibility.md.
#ifndef CC_EXECUTABLE_COMPATIBILITY_H_
#define CC_EXECUTABLE_COMPATIBILITY_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// Version and runtime hash of this package, and the git version of the TensorFlow it was built against. The
// version of TensorFlow is not set: whoever links TensorFlow knows it (tensorflow_build.h).
const Build& RuntimeBuild();

// OK, or InvalidArgument when the executable was written by code that gives another meaning to its header or
// its blobs.
absl::Status CheckRuntimeHash(const Build& build);

// False under TF_POPLAR_FLAGS=--disable_poplar_version_check.
bool RuntimeHashCheckEnabled();

// InvalidArgument: the executable is for `what` `found`, and here is `expected`; then what to do.
absl::Status Incompatible(absl::string_view what, absl::string_view found, absl::string_view expected,
                          absl::string_view advice);

inline constexpr absl::string_view kExportAgain = "Export the model again with the versions that serve it.";

}  // namespace tfipu

#endif  // CC_EXECUTABLE_COMPATIBILITY_H_
