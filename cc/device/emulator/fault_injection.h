// Device failures on demand, so that error handling can be tested where no hardware fails.
#ifndef CC_DEVICE_EMULATOR_FAULT_INJECTION_H_
#define CC_DEVICE_EMULATOR_FAULT_INJECTION_H_

#include <cstdint>
#include <map>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cc/device/device.h"

namespace tfipu {

// The environment variable TFIPU_EMULATOR_FAULT, read whenever a device is created: KIND@STEP, or several
// with commas between them. STEP counts the real steps of the device from 0, through resets. KIND is
//   application_error  the program's own fault: the device is reset, later calls are served
//   ipu_reset          recoverable by IPU_RESET: likewise
//   other_recovery     recoverable by PARTITION_RESET, which the runtime cannot do: every later call fails
//   device_error       any other device error: every later call fails
//   unknown            an unknown error: every later call fails
// "application_error@3,unknown@10" fails the fourth step and, after the reset, the eleventh.
class FaultInjection {
 public:
  FaultInjection() = default;

  // InvalidArgument names what cannot be read.
  static absl::StatusOr<FaultInjection> Parse(absl::string_view text);
  static absl::StatusOr<FaultInjection> FromEnvironment();

  bool empty() const { return faults_.empty(); }

  // The failure that step is to have, if any.
  std::optional<DeviceFailure> At(std::uint64_t step) const;

 private:
  std::map<std::uint64_t, DeviceFailure> faults_;
};

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_FAULT_INJECTION_H_
