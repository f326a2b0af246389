// How a program's stages share threads and buffers.
#ifndef CC_DEVICE_EMULATOR_PLAN_H_
#define CC_DEVICE_EMULATOR_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// Where a value of a step lies in memory.
struct Place {
  enum class Memory {
    kOutfeed,  // outfeed `index` of the step
    kSlot,     // buffer `index` of the slot the step runs in
    kCarried,  // the next value of carried `index`
  };
  Memory memory = Memory::kSlot;
  std::uint32_t index = 0;
};

// A stage may run step n once `stage` has done step n - lag.
struct Wait {
  std::uint32_t stage = 0;
  std::uint64_t lag = 0;
};

struct Copy {
  ValueRef from;
  Place to;
  std::size_t size = 0;
};

struct StagePlan {
  std::vector<ValueRef> arguments;
  std::vector<std::size_t> argument_sizes;
  std::vector<Place> results;
  std::vector<std::size_t> result_sizes;
  std::vector<ElementType> result_types;
  std::vector<Copy> copies;  // made after the stage's code has run
  std::vector<Wait> waits;   // on stages of any lane
  std::uint32_t lane = 0;
};

// The stages that one thread runs.
struct Lane {
  std::uint32_t ipu = 0;
  std::vector<std::uint32_t> stages;  // ascending
};

// Everything about the execution of a program that does not change from step to step.
struct Plan {
  std::vector<StagePlan> stages;
  // One for each IPU that has stages, that of stage 0 first; a single one for Sequential programs.
  std::vector<Lane> lanes;
  // The stages of lane 0 need nothing of other lanes within a step: the thread that takes batches in may run
  // them.
  bool first_lane_enters = true;
  std::vector<std::size_t> slot_sizes;
  std::vector<std::size_t> carried_sizes;
  // Steps that may be inside the device at once: enough for every lane to work while `hold` steps wait to
  // leave.
  std::size_t slots = 1;

  // `header` is valid in the sense of cc/executable/validate.h.
  static absl::StatusOr<Plan> Make(const ExecutableHeader& header);
};

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_PLAN_H_
