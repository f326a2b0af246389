// A program that the emulator has loaded, and the devices it makes of it.
#ifndef CC_DEVICE_EMULATOR_EMULATED_DEVICE_H_
#define CC_DEVICE_EMULATOR_EMULATED_DEVICE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cc/device/device.h"
#include "cc/device/emulator/native_code.h"
#include "cc/device/emulator/plan.h"

namespace tfipu {

// A program's stages for some number of rows.
struct LoadedStages {
  std::int64_t rows = 0;  // 0: the whole batch
  Plan plan;
  std::vector<std::unique_ptr<NativeCode>> code;  // one for each stage
};

// What all devices of a program share. Immutable.
struct LoadedProgram {
  std::shared_ptr<const Executable> executable;
  LoadedStages whole;
  // For fewer rows. Their plans differ from the whole one's in sizes, and in the weights that stages read.
  std::vector<LoadedStages> variants;

  const LoadedStages& ForRows(std::int64_t rows) const {
    for (const LoadedStages& variant : variants) {
      if (variant.rows == rows) return variant;
    }
    return whole;
  }
};

// A device for the program: sequential_device.h or pipelined_device.h, as its plan asks for. InvalidArgument:
// the start-up inputs are not those of the executable, or the environment asks for a fault that cannot be
// read.
absl::StatusOr<std::unique_ptr<Device>> MakeEmulatedDevice(std::shared_ptr<const LoadedProgram> program,
                                                           absl::Span<const ConstBuffer> startup_inputs);

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_EMULATED_DEVICE_H_
