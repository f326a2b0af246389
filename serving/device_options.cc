#include "serving/device_options.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tfipu::serving {
namespace {

constexpr int kMostStepsInFlight = 64;

}  // namespace

absl::StatusOr<PjrtOptions> PjrtOptionsFrom(const Flags& flags) {
  PjrtOptions options;
  for (absl::string_view path : absl::StrSplit(flags.device_plugin, ',', absl::SkipWhitespace())) {
    options.plugins.push_back({std::string(path)});
  }
  if (flags.device_preallocate == "true" || flags.device_preallocate == "false") {
    options.memory.preallocate = flags.device_preallocate == "true";
  } else if (!flags.device_preallocate.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--device_preallocate: found \"", flags.device_preallocate,
                                                   "\", expected \"true\", \"false\" or nothing."));
  }
  if (flags.device_memory_fraction < 0 || flags.device_memory_fraction > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--device_memory_fraction: found ", flags.device_memory_fraction, ", expected 0 to 1."));
  }
  if (flags.device_memory_fraction > 0) options.memory.memory_fraction = flags.device_memory_fraction;
  if (flags.device_steps_in_flight < 0 || flags.device_steps_in_flight > kMostStepsInFlight) {
    return absl::InvalidArgumentError(absl::StrCat("--device_steps_in_flight: found ",
                                                   flags.device_steps_in_flight, ", expected 0 to ",
                                                   kMostStepsInFlight, "."));
  }
  options.steps_in_flight = flags.device_steps_in_flight;
  if (flags.device_step_timeout_in_ms < 1 || flags.device_load_timeout_in_ms < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--device_step_timeout_in_ms and --device_load_timeout_in_ms: found ",
        flags.device_step_timeout_in_ms, " and ", flags.device_load_timeout_in_ms, ", expected at least 1."));
  }
  options.step_timeout = absl::Milliseconds(flags.device_step_timeout_in_ms);
  options.load_timeout = absl::Milliseconds(flags.device_load_timeout_in_ms);
  return options;
}

}  // namespace tfipu::serving
