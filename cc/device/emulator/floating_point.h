// Floating-point state of the threads that compute.
#ifndef CC_DEVICE_EMULATOR_FLOATING_POINT_H_
#define CC_DEVICE_EMULATOR_FLOATING_POINT_H_

#include <string>

#include "absl/types/span.h"
#include "cc/base/buffer.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// While it lives, the thread takes denormal numbers for zero, as TensorFlow's own threads do: arithmetic on
// them is a hundred times slower. The thread that made it destroys it.
class ScopedFlushDenormals {
 public:
  ScopedFlushDenormals();
  ~ScopedFlushDenormals();
  ScopedFlushDenormals(const ScopedFlushDenormals&) = delete;
  ScopedFlushDenormals& operator=(const ScopedFlushDenormals&) = delete;

 private:
  unsigned int saved_;
};

// Finds out whether code raised a floating-point exception in the calling thread.
//
// The CPU's flags alone say too much: compiled code also computes values that it throws away (the lanes of a
// vector behind the last element, both sides of a select). So a flag counts only if the results show its
// mark: for `inv` a NaN, for `div0` and `oflo` an infinity or a NaN. What a program computes and masks before
// the end of a stage is therefore not reported.
class ExceptionWatch {
 public:
  explicit ExceptionWatch(const FloatingPointBehaviour& behaviour);

  bool enabled() const { return mask_ != 0; }

  // Before the code runs.
  void Clear() const;

  // After: the exception's name ("invalid operation (inv)"), or nothing.
  std::string Raised(absl::Span<const MutableBuffer> results, absl::Span<const ElementType> types) const;

 private:
  const FloatingPointBehaviour behaviour_;
  int mask_ = 0;
};

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_FLOATING_POINT_H_
