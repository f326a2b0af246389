// Programs for tests: HLO text -> executable file -> loaded program.
#ifndef CC_DEVICE_EMULATOR_TESTING_PROGRAM_H_
#define CC_DEVICE_EMULATOR_TESTING_PROGRAM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cc/compiler/compiler.h"
#include "cc/device/device.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// A serialised xla.HloModuleProto. Ends the test program when the text cannot be parsed.
std::string ParseHlo(absl::string_view text);

// relu(x . W + b) over layers of these widths, x being float32[batch, widths[0]]; the weights depend on
// `seed`.
std::string MlpHlo(std::int64_t batch, const std::vector<std::int64_t>& widths, int seed = 1);

// A header with one infeed "x" and one outfeed "y", float32[4], and `stages` stages in a chain, each on an
// IPU of its own, with the schedule's hold. Fields may be changed before Compile().
struct TestingProgram {
  static TestingProgram Chain(std::vector<std::string> stages, Schedule schedule = GROUPED);
  static TestingProgram ChainOfModules(std::vector<std::string> hlo, std::vector<std::int64_t> infeed_dims,
                                       Schedule schedule = GROUPED);
  static TestingProgram OneStage(std::string stage) { return Chain({std::move(stage)}); }

  // Compiles to a temporary file and opens it.
  absl::StatusOr<std::shared_ptr<const Executable>> Compile(const CompileOptions& options = {}) const;
  absl::StatusOr<std::shared_ptr<Program>> Load(const CompileOptions& options = {}) const;

  // A device of the program, without start-up inputs unless given. Ends the test program on errors.
  std::unique_ptr<Device> MakeDevice(std::vector<ConstBuffer> startup_inputs = {}) const;

  ExecutableHeader header;
  std::vector<std::string> hlo;  // serialised xla.HloModuleProto, one for each stage
};

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_TESTING_PROGRAM_H_
