// What compiling for one kind of target adds to what is common to all.
#ifndef CC_COMPILER_TARGET_COMPILER_H_
#define CC_COMPILER_TARGET_COMPILER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cc/executable/executable.pb.h"
#include "xla/hlo/ir/hlo_module.h"

namespace tfipu {

struct GeneratedCode {
  std::string code;
  std::uint64_t code_size = 0;  // bytes of machine code and constants
  std::uint64_t temp_size = 0;  // bytes of scratch memory
};

// A parameter of a stage and the result that may take its memory.
using Donation = std::pair<std::int64_t, std::int64_t>;

// Generates the code of a program's stages, one after the other. Not thread-safe.
class TargetCompiler {
 public:
  virtual ~TargetCompiler() = default;

  // Completes the target, and what of the header depends on it, before the first stage. InvalidArgument: the
  // program asks for what such a target cannot do.
  virtual absl::Status Begin(ExecutableHeader& header) = 0;

  // Changes a module before its weights leave it, for code that is better on this target.
  virtual absl::Status Rewrite(xla::HloModule& module) { return absl::OkStatus(); }

  // The module's parameters and results have their default layouts. The same module gives the same bytes, as
  // far as that is the target's to promise.
  virtual absl::StatusOr<GeneratedCode> Generate(std::unique_ptr<xla::HloModule> module,
                                                 const std::vector<Donation>& donations) = 0;

  // After the last stage: what only the code tells of the target, and whether the program fits it.
  // `memory_of_device`: bytes, by the index of the device.
  virtual absl::Status End(ExecutableHeader& header,
                           const std::map<std::uint32_t, std::uint64_t>& memory_of_device) = 0;
};

}  // namespace tfipu

#endif  // CC_COMPILER_TARGET_COMPILER_H_
