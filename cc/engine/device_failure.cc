#include "cc/engine/device_failure.h"

#include "absl/strings/str_cat.h"

namespace tfipu {

bool Recoverable(const DeviceFailure& failure) {
  return failure.kind == DeviceFailure::Kind::kApplicationError ||
         failure.kind == DeviceFailure::Kind::kRecoverableReset;
}

absl::Status StatusOf(const DeviceFailure& failure, const std::string& engine) {
  const std::string& action = failure.recovery_action;
  switch (failure.kind) {
    case DeviceFailure::Kind::kApplicationError:
    case DeviceFailure::Kind::kRecoverableReset:
      return absl::InternalError(absl::StrCat("application_runtime_error in engine '", engine,
                                              "': ", failure.reason,
                                              ". Recovery action: ", action.empty() ? "IPU_RESET" : action,
                                              ". The device is reset; later calls are served."));
    case DeviceFailure::Kind::kRecoverableOther:
    case DeviceFailure::Kind::kDeviceError:
      return absl::InternalError(
          absl::StrCat("Device error in engine '", engine, "': ", failure.reason, ". ",
                       action.empty() ? "" : absl::StrCat("Recovery action: ", action, ". "),
                       "The engine cannot recover from it: every later call fails. Load the model again."));
    case DeviceFailure::Kind::kUnknown:
      break;
  }
  return absl::UnknownError(absl::StrCat("Unknown error of the device of engine '", engine, "': ",
                                         failure.reason, ". Every later call fails. Load the model again."));
}

}  // namespace tfipu
