// HLO modules + what is known of the program -> an executable file. Used at export only.
#ifndef CC_COMPILER_COMPILER_H_
#define CC_COMPILER_COMPILER_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cc/compiler/pjrt_compiler.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

struct CompileOptions {
  // Constants of at least this many bytes leave the code and become weights, mapped from the file.
  std::uint64_t weight_threshold = 1024;
  // Bytes of the constants that carried values start as: an initial value whose source is WEIGHT has its
  // index in here.
  std::vector<std::string> initial_values;
  // The same program for fewer rows, in ascending order of them: HLO for each stage, with parameters that
  // have fewer rows.
  struct RowVariantHlo {
    std::uint32_t rows = 0;
    std::vector<std::string> stage_hlo;
  };
  std::vector<RowVariantHlo> row_variants;
  // For programs whose target is a PJRT plugin's.
  PjrtCompileOptions pjrt;
  // Called as work proceeds, from the calling thread: what is being done, and the share done so far (0 to 1).
  std::function<void(absl::string_view what, double done)> progress;
};

// Compiles each stage's HLO (serialised xla.HloModuleProto, one for each header.stages()) for header.target()
// and writes the executable to `path`.
//
// The caller fills in: name, iterations, schedule, target (num_ipus; of an IPU: type, architecture,
// tiles_per_ipu, memory_per_tile, cpu; of PJRT: name), startup_inputs, infeeds, carried, outfeeds (names
// only), outfeed_values, hold, timeout_us, batching and floating-point fields, options, and of each stage:
// name, ipu and `arguments`, one for each parameter of its HLO entry computation. The compiler fills in
// everything else: build, the rest of the target, stage results, code, sizes, weights (whose ValueRefs it
// appends to the stage's arguments), types and shapes of outfeeds.
//
// InvalidArgument: the HLO or the header do not fit each other, a shape is dynamic, an operation cannot be
// compiled (named, with the source line XLA knows of). ResourceExhausted: a stage needs more than its IPU's
// memory; gives both sizes. Thread-safe.
absl::Status Compile(ExecutableHeader header, const std::vector<std::string>& stage_hlo,
                     const std::string& path, const CompileOptions& options = {});

}  // namespace tfipu

#endif  // CC_COMPILER_COMPILER_H_
