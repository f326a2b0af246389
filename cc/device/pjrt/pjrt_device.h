// The devices of a plugin that run one copy of a program.
#ifndef CC_DEVICE_PJRT_PJRT_DEVICE_H_
#define CC_DEVICE_PJRT_PJRT_DEVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cc/device/device.h"
#include "cc/device/pjrt/flights.h"
#include "cc/device/pjrt/pjrt_program.h"

namespace tfipu {

// Enqueues all stages of a step at once, each on its device; the plugin runs them as their arguments come.
// Carried values stay on the device, donated from step to step where the code allows it.
class PjrtDevice : public Device {
 public:
  // On the devices of the client that are used least. InvalidArgument: the start-up inputs are not those of
  // the executable.
  static absl::StatusOr<std::unique_ptr<PjrtDevice>> Create(std::shared_ptr<const PjrtLoaded> loaded,
                                                            absl::Span<const ConstBuffer> startup_inputs);
  ~PjrtDevice() override;

  // From now on each step fails whose stages give results of other types than the executable says.
  void CheckTypesOfResults() { check_types_ = true; }

  std::optional<DeviceFailure> Run(StepSource& source) override;
  absl::Status Reset() override;

 private:
  using BufferPtr = std::shared_ptr<DeviceBuffer>;

  // A value and the device, among those of this copy, on which it lies.
  struct Located {
    BufferPtr buffer;
    std::uint32_t device = 0;
  };
  // The values of one step.
  struct Values;
  // For each stage the buffers of its arguments that are the same in every step; null for others.
  using FixedArguments = std::vector<std::vector<BufferPtr>>;

  PjrtDevice(std::shared_ptr<const PjrtLoaded> loaded, std::unique_ptr<Client::Placement> placement);

  absl::Status Prepare(absl::Span<const ConstBuffer> startup_inputs);
  absl::StatusOr<FixedArguments> FixedArgumentsOf(const ExecutableHeader& header);
  absl::Status Launch(Flight& flight, const std::shared_ptr<Flight>& shared);
  absl::Status RunStage(int s, Values& values);
  absl::Status Fetch(int outfeed, Values& values);
  absl::StatusOr<Located> ValueOf(const ValueRef& ref, std::uint32_t device, Values& values);
  absl::StatusOr<BufferPtr> OnDevice(const Located& value, std::uint32_t device, Flight& flight);

  const std::shared_ptr<const PjrtLoaded> loaded_;
  const std::unique_ptr<Client::Placement> placement_;
  const ExecutableHeader& header_;
  const Plugin* const plugin_;
  const std::shared_ptr<Flights> flights_;
  std::vector<Located> startup_inputs_;
  std::vector<FixedArguments> fixed_;  // of the whole program, then of its variants
  std::vector<Located> carried_;       // after the last step that was launched
  bool first_in_run_ = true;
  bool check_types_ = false;
  std::thread watch_;
};

}  // namespace tfipu

#endif  // CC_DEVICE_PJRT_PJRT_DEVICE_H_
