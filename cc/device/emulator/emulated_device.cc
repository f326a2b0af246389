#include "cc/device/emulator/emulated_device.h"

#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/device/emulator/fault_injection.h"
#include "cc/device/emulator/pipelined_device.h"
#include "cc/device/emulator/sequential_device.h"
#include "cc/device/emulator/stage_runner.h"

namespace tfipu {

absl::StatusOr<std::unique_ptr<Device>> MakeEmulatedDevice(std::shared_ptr<const LoadedProgram> program,
                                                           absl::Span<const ConstBuffer> startup_inputs) {
  const ExecutableHeader& header = program->executable->header();
  if (startup_inputs.size() != header.startup_inputs_size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Found ", startup_inputs.size(), " start-up inputs, expected ", header.startup_inputs_size()));
  }
  std::vector<AlignedBuffer> copies;
  for (int i = 0; i < header.startup_inputs_size(); ++i) {
    TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(header.startup_inputs(i)));
    if (startup_inputs[i].size() != size) {
      return absl::InvalidArgumentError(absl::StrCat("Found ", startup_inputs[i].size(),
                                                     " bytes for start-up input ", i, " '",
                                                     header.startup_inputs(i).name(), "', expected ", size,
                                                     " for ", ToString(header.startup_inputs(i))));
    }
    copies.emplace_back(size);
    if (size != 0) std::memcpy(copies.back().data(), startup_inputs[i].data(), size);
  }
  TFIPU_ASSIGN_OR_RETURN(FaultInjection faults, FaultInjection::FromEnvironment());
  const bool sequential = program->whole.plan.lanes.size() == 1 && header.hold() == 0;
  auto runner = std::make_unique<StageRunner>(std::move(program), std::move(copies), std::move(faults));
  if (sequential) return std::make_unique<SequentialDevice>(std::move(runner));
  return std::make_unique<PipelinedDevice>(std::move(runner));
}

}  // namespace tfipu
