// Records what a program answers, and compares another device's answers with it.
#ifndef CC_CHECK_RECORDED_STEPS_H_
#define CC_CHECK_RECORDED_STEPS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cc/check/recorded_steps.pb.h"
#include "cc/device/device.h"
#include "cc/engine/engine.h"

namespace tfipu {

// Runs the program on `count` random steps, one after the other: floating-point numbers between -1 and 1,
// integers from 0 to 99.
absl::StatusOr<RecordedSteps> RecordSteps(std::shared_ptr<Program> program, int count, std::uint64_t seed);

struct Comparison {
  std::uint64_t values = 0;       // that were compared
  double largest_difference = 0;  // relative to the largest number of its tensor
  std::string where;              // that was: "step 2, output_0"
  std::uint64_t unequal = 0;      // values of other types than floating point that differ
};

// Runs the program on the recorded steps. InvalidArgument: they are of another program.
absl::StatusOr<Comparison> CompareSteps(std::shared_ptr<Program> program, const RecordedSteps& recorded);

// An engine on the program, started with the recorded start-up inputs.
absl::StatusOr<std::shared_ptr<Engine>> StartEngine(std::shared_ptr<Program> program,
                                                    const RecordedSteps& recorded, int replicas);

absl::Status WriteSteps(const RecordedSteps& steps, const std::string& path);
absl::StatusOr<RecordedSteps> ReadSteps(const std::string& path);

}  // namespace tfipu

#endif  // CC_CHECK_RECORDED_STEPS_H_
