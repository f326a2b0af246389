#include "cc/device/emulator/sequential_device.h"

#include "cc/device/emulator/floating_point.h"

namespace tfipu {

std::optional<DeviceFailure> SequentialDevice::Run(StepSource& source) {
  const ScopedFlushDenormals flush;
  StepInside inside;
  std::uint64_t entered = 0;
  inside.first_in_run = true;
  while (!failure_.has_value() && (inside.step = source.NextStep()) != nullptr) {
    if (!inside.step->dummy) {
      failure_ = RunStages(inside);
      if (failure_.has_value()) break;
      ++inside.number;
      inside.first_in_run = false;
    }
    source.StepDone(inside.step);
    if (++entered == runner_->header().iterations()) {
      entered = 0;
      inside.first_in_run = true;
      source.RunEnded();
    }
  }
  return failure_;
}

std::optional<DeviceFailure> SequentialDevice::RunStages(const StepInside& inside) {
  for (std::uint32_t stage = 0; stage < runner_->plan().stages.size(); ++stage) {
    if (std::optional<DeviceFailure> failure = runner_->Execute(stage, inside)) return failure;
  }
  return std::nullopt;
}

absl::Status SequentialDevice::Reset() {
  failure_.reset();
  return absl::OkStatus();
}

}  // namespace tfipu
