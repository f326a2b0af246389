// What an engine has done since it was started.
#ifndef CC_ENGINE_STATISTICS_H_
#define CC_ENGINE_STATISTICS_H_

#include <cstdint>

#include "cc/base/histogram.h"

namespace tfipu {

// A snapshot. Times are in microseconds.
struct EngineStatistics {
  std::uint64_t calls = 0;     // answered with success
  std::uint64_t failed = 0;    // answered with an error of the device
  std::uint64_t rejected = 0;  // the queue was full
  std::uint64_t expired = 0;   // the deadline passed in the queue
  std::uint64_t cancelled = 0;
  std::uint64_t steps = 0;        // real steps executed
  std::uint64_t dummy_steps = 0;  // entered to push real ones out
  std::uint64_t stalls = 0;       // times the timeout passed with real calls pending
  std::uint64_t rows = 0;         // real rows (without row batching: compiled batches)
  std::uint64_t padded_rows = 0;
  std::uint64_t runs = 0;  // ended runs of the main program
  std::uint64_t resets = 0;
  std::uint64_t queued = 0;  // calls in the queue now
  Histogram::Snapshot fill;  // real rows over computed rows of each step, in percent
  Histogram::Snapshot queue_time;
  Histogram::Snapshot device_time;
  Histogram::Snapshot call_time;  // from Enqueue() to done
};

}  // namespace tfipu

#endif  // CC_ENGINE_STATISTICS_H_
