// An emulated device whose stages run one after the other, in the thread inside Run().
#ifndef CC_DEVICE_EMULATOR_SEQUENTIAL_DEVICE_H_
#define CC_DEVICE_EMULATOR_SEQUENTIAL_DEVICE_H_

#include <optional>
#include <utility>

#include "cc/device/device.h"
#include "cc/device/emulator/stage_runner.h"

namespace tfipu {

// For plans of one lane that hold nothing back. A step is done before the next is asked for: no thread, no
// lock.
class SequentialDevice : public Device {
 public:
  explicit SequentialDevice(std::unique_ptr<StageRunner> runner) : runner_(std::move(runner)) {}

  std::optional<DeviceFailure> Run(StepSource& source) override;
  absl::Status Reset() override;

 private:
  std::optional<DeviceFailure> RunStages(const StepInside& inside);

  const std::unique_ptr<StageRunner> runner_;
  std::optional<DeviceFailure> failure_;
};

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_SEQUENTIAL_DEVICE_H_
