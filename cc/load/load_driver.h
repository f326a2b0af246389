// Drives an engine with calls and measures what they get: how `tensorflow_ipu bench` knows.
#ifndef CC_LOAD_LOAD_DRIVER_H_
#define CC_LOAD_LOAD_DRIVER_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cc/base/buffer.h"
#include "cc/base/histogram.h"
#include "cc/engine/engine.h"
#include "cc/executable/executable.h"

namespace tfipu {

struct LoadOptions {
  // Calls per second that arrive at random (Poisson), whether or not earlier ones were answered. 0: closed
  // loop.
  double rate = 0;
  // Closed loop: calls in flight at any time; an answer makes the next call.
  int concurrency = 1;
  // Row batching: rows of each call. 0: the compiled batch.
  std::int64_t rows = 0;
  absl::Duration warm_up = absl::Milliseconds(200);
  absl::Duration duration = absl::Seconds(2);
  std::uint64_t seed = 1;
};

// Of the calls that were due after the warm-up.
struct LoadResult {
  std::uint64_t calls = 0;  // answered with success
  std::uint64_t failed = 0;
  absl::Status failure;  // the first
  double seconds = 0;    // from the end of the warm-up to the last answer
  // Nanoseconds from when a call was due, not from when the driver came to make it, to its answer: a slow
  // engine cannot hide by delaying the calls that would have measured it.
  Histogram::Snapshot latency;
  // What the engine did meanwhile; calls at either end may be counted on one side only.
  std::uint64_t steps = 0;
  std::uint64_t dummy_steps = 0;
  std::uint64_t rows = 0;
  std::uint64_t padded_rows = 0;
};

// Calls the engine with random feeds until the time is over, and waits for all answers. `progress`, when
// given, is called now and then from the calling thread with the share of the time that is over; false ends
// the load early. InvalidArgument: options that make no sense. Cancelled: ended early.
absl::StatusOr<LoadResult> DriveLoad(Engine& engine, const LoadOptions& options,
                                     const std::function<bool(double)>& progress = nullptr);

// A tensor's worth of random bytes that are valid elements: floating-point numbers between 0 and 1, 0 for
// integers (which may be indices).
AlignedBuffer RandomTensor(ElementType type, std::size_t size, std::uint64_t seed);

}  // namespace tfipu

#endif  // CC_LOAD_LOAD_DRIVER_H_
