// An executable on the devices of a plugin.
#ifndef CC_DEVICE_PJRT_PJRT_PROGRAM_H_
#define CC_DEVICE_PJRT_PJRT_PROGRAM_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cc/device/device.h"
#include "cc/device/pjrt/buffers.h"
#include "cc/device/pjrt/client.h"
#include "cc/executable/executable.h"

namespace tfipu {

// A stage's code, loaded; any device of the client runs it. Thread-safe.
class LoadedStage {
 public:
  // Loads the code and compares the types and shapes of its results with those of `stage`. InvalidArgument
  // when they differ.
  static absl::StatusOr<std::unique_ptr<LoadedStage>> Load(Client* client, const Stage& stage,
                                                           ConstBuffer code);
  ~LoadedStage();
  LoadedStage(const LoadedStage&) = delete;
  LoadedStage& operator=(const LoadedStage&) = delete;

  // Enqueues the stage. `kept` are the indices of arguments that may not be donated to its results. The event
  // is ready when the device has run it; it is null where the plugin gives none.
  absl::StatusOr<PJRT_Event*> Execute(PJRT_Device* device, const std::vector<PJRT_Buffer*>& arguments,
                                      const std::vector<std::int64_t>& kept,
                                      std::vector<std::shared_ptr<DeviceBuffer>>& results) const;

  std::size_t result_count() const { return result_count_; }

 private:
  LoadedStage(Client* client, PJRT_LoadedExecutable* executable, std::size_t result_count)
      : client_(client), executable_(executable), result_count_(result_count) {}

  Client* const client_;
  PJRT_LoadedExecutable* const executable_;
  const std::size_t result_count_;
};

// The weights of a program on the devices that read them: each uploaded once for each device, whichever
// replica or row variant asks first. Thread-safe.
class WeightStore {
 public:
  WeightStore(Client* client, std::shared_ptr<const Executable> executable)
      : client_(client), executable_(std::move(executable)) {}

  absl::StatusOr<std::shared_ptr<DeviceBuffer>> Get(std::uint32_t weight, PJRT_Device* device);

 private:
  Client* const client_;
  const std::shared_ptr<const Executable> executable_;
  std::mutex mutex_;
  std::map<std::pair<std::uint32_t, PJRT_Device*>, std::shared_ptr<DeviceBuffer>> buffers_;
};

// A program's stages for some number of rows.
struct PjrtStages {
  std::int64_t rows = 0;    // 0: the whole batch
  ExecutableHeader header;  // the executable's, or that of the variant
  std::vector<std::unique_ptr<LoadedStage>> stages;
};

// What all devices of a program share. Immutable but for the weights.
struct PjrtLoaded {
  std::shared_ptr<const Executable> executable;
  Client* client = nullptr;
  PjrtStages whole;
  std::vector<PjrtStages> variants;
  std::unique_ptr<WeightStore> weights;
  int steps_in_flight = 1;
  absl::Duration step_timeout;

  const PjrtStages& ForRows(std::int64_t rows) const {
    for (const PjrtStages& variant : variants) {
      if (variant.rows == rows) return variant;
    }
    return whole;
  }
};

// Loads the code, and runs each form of the program once where it is known to end. The executable was
// checked.
absl::StatusOr<std::shared_ptr<Program>> LoadPjrtProgram(std::shared_ptr<const Executable> executable,
                                                         Client* client, int steps_in_flight,
                                                         absl::Duration step_timeout);

}  // namespace tfipu

#endif  // CC_DEVICE_PJRT_PJRT_PROGRAM_H_
