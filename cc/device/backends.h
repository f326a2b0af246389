// The kinds of devices that executables can be loaded on.
#ifndef CC_DEVICE_BACKENDS_H_
#define CC_DEVICE_BACKENDS_H_

#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cc/device/device.h"

namespace tfipu {

// A set of backends, one for each kind. Immutable; the backends are not owned.
class Backends {
 public:
  explicit Backends(const std::vector<Backend*>& backends);

  // Whether the executable can run here: InvalidArgument when nothing here runs targets of its kind, when the
  // structure of executables has changed since it was written (compatibility.h), or for its backend's
  // reasons.
  absl::Status Check(const ExecutableHeader& header) const;

  // Checks the executable, then loads it.
  absl::StatusOr<std::shared_ptr<Program>> Load(std::shared_ptr<const Executable> executable) const;

  // What all of them offer, in the order of their kinds.
  std::vector<Offer> Offers() const;

 private:
  absl::StatusOr<Backend*> BackendOf(const Target& target) const;

  std::map<Target::KindCase, Backend*> backends_;
};

}  // namespace tfipu

#endif  // CC_DEVICE_BACKENDS_H_
