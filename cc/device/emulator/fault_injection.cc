#include "cc/device/emulator/fault_injection.h"

#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tfipu {
namespace {

constexpr char kVariable[] = "TFIPU_EMULATOR_FAULT";

std::optional<DeviceFailure> FailureOf(absl::string_view kind) {
  using Kind = DeviceFailure::Kind;
  if (kind == "application_error") return DeviceFailure{Kind::kApplicationError, "", ""};
  if (kind == "ipu_reset") return DeviceFailure{Kind::kRecoverableReset, "IPU_RESET", ""};
  if (kind == "other_recovery") return DeviceFailure{Kind::kRecoverableOther, "PARTITION_RESET", ""};
  if (kind == "device_error") return DeviceFailure{Kind::kDeviceError, "", ""};
  if (kind == "unknown") return DeviceFailure{Kind::kUnknown, "", ""};
  return std::nullopt;
}

}  // namespace

absl::StatusOr<FaultInjection> FaultInjection::Parse(absl::string_view text) {
  FaultInjection injection;
  for (absl::string_view item : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(item, '@');
    std::uint64_t step = 0;
    std::optional<DeviceFailure> failure = FailureOf(parts[0]);
    if (parts.size() != 2 || !failure.has_value() || !absl::SimpleAtoi(parts[1], &step)) {
      return absl::InvalidArgumentError(
          absl::StrCat(kVariable, " holds '", item,
                       "', expected KIND@STEP with one of application_error, ipu_reset, "
                       "other_recovery, device_error, unknown"));
    }
    failure->reason = absl::StrCat(parts[0], " injected at step ", step, " by ", kVariable);
    injection.faults_.emplace(step, *std::move(failure));
  }
  return injection;
}

absl::StatusOr<FaultInjection> FaultInjection::FromEnvironment() {
  const char* text = std::getenv(kVariable);
  return Parse(text == nullptr ? "" : text);
}

std::optional<DeviceFailure> FaultInjection::At(std::uint64_t step) const {
  const auto found = faults_.find(step);
  if (found == faults_.end()) return std::nullopt;
  return found->second;
}

}  // namespace tfipu
