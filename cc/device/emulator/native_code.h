// The native code of one stage, loaded and ready to be called.
#ifndef CC_DEVICE_EMULATOR_NATIVE_CODE_H_
#define CC_DEVICE_EMULATOR_NATIVE_CODE_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cc/base/buffer.h"

namespace tfipu {

// Immutable. Thread-safe: any number of threads may be inside Run(), each with its own buffers.
class NativeCode {
 public:
  // Links the object code inside `code` (an xla.cpu.CompilationResultProto, checked against its checksum
  // before: XLA trusts it). The sizes are those the header gives to the stage's arguments and results.
  // InvalidArgument when the code has others. Generates no code.
  static absl::StatusOr<std::unique_ptr<NativeCode>> Load(ConstBuffer code,
                                                          std::vector<std::size_t> argument_sizes,
                                                          std::vector<std::size_t> result_sizes);
  virtual ~NativeCode() = default;

  // Bytes of scratch memory that Run() needs.
  virtual std::size_t temp_size() const = 0;

  // False when the code holds a loop whose end depends on the data: with arbitrary arguments it might never
  // return.
  virtual bool always_ends() const = 0;

  // Runs in the calling thread and returns when all results are written. Every buffer starts at a multiple of
  // kBufferAlignment.
  virtual absl::Status Run(absl::Span<const ConstBuffer> arguments, absl::Span<const MutableBuffer> results,
                           MutableBuffer temp) const = 0;
};

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_NATIVE_CODE_H_
