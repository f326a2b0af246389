// Runs one stage of one step of an emulated device.
#ifndef CC_DEVICE_EMULATOR_STAGE_RUNNER_H_
#define CC_DEVICE_EMULATOR_STAGE_RUNNER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cc/device/device.h"
#include "cc/device/emulator/emulated_device.h"
#include "cc/device/emulator/fault_injection.h"
#include "cc/device/emulator/floating_point.h"

namespace tfipu {

// A step inside the device.
struct StepInside {
  Step* step = nullptr;
  std::uint64_t number = 0;   // among the real steps of this Run()
  bool first_in_run = false;  // carried values have their initial ones
  std::size_t slot = 0;
};

// The memory of one device: start-up inputs, results that pass between stages, carried values and scratch.
// Any number of threads may be inside Execute(), each for another lane of the plan.
class StageRunner {
 public:
  StageRunner(std::shared_ptr<const LoadedProgram> program, std::vector<AlignedBuffer> startup_inputs,
              FaultInjection faults);

  // The failure, if the stage or an injected fault had one.
  std::optional<DeviceFailure> Execute(std::uint32_t stage, const StepInside& inside);

  const Plan& plan() const { return plan_; }
  const ExecutableHeader& header() const { return header_; }

 private:
  struct CarriedBuffers {
    AlignedBuffer buffers[2];  // in turns: what a step reads, and what it writes
  };

  // What one stage needs to be called, allocated once.
  struct StageBuffers {
    std::vector<ConstBuffer> arguments;
    std::vector<MutableBuffer> results;
  };

  ConstBuffer Resolve(const ValueRef& value, const StepInside& inside) const;
  MutableBuffer Locate(const Place& place, const StepInside& inside) const;

  const std::shared_ptr<const LoadedProgram> program_;
  const Plan& plan_;
  const ExecutableHeader& header_;
  const ExceptionWatch watch_;
  const std::vector<AlignedBuffer> startup_inputs_;
  const FaultInjection faults_;
  std::uint64_t steps_of_device_ = 0;  // touched by stage 0 only

  std::vector<std::vector<AlignedBuffer>> slots_;
  std::vector<CarriedBuffers> carried_;
  std::vector<StageBuffers> stages_;
  std::vector<AlignedBuffer> temps_;  // one for each lane
};

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_STAGE_RUNNER_H_
