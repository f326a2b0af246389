// What became of the calls of one signature.
#ifndef SERVING_SERVABLES_SIGNATURE_STATISTICS_H_
#define SERVING_SERVABLES_SIGNATURE_STATISTICS_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cc/base/histogram.h"

namespace tfipu::serving {

// Counted since the version was loaded. Thread-safe; adding takes some atomic additions. Fields are read one
// by one, so they need not fit each other while calls go on.
struct SignatureStatistics {
  // A call has been answered. `latency`: from its arrival to its answer.
  void CallFinished(const absl::Status& status, absl::Duration latency) {
    std::atomic<std::uint64_t>& count = CountOf(status.code());
    count.fetch_add(1, std::memory_order_relaxed);
    if (status.ok()) call_time_us.Add(Microseconds(latency));
  }

  // The server has run calls together (or one alone, while it batches).
  void BatchRun(std::int64_t real_rows, std::int64_t rows_run) {
    batches.fetch_add(1, std::memory_order_relaxed);
    rows.fetch_add(static_cast<std::uint64_t>(real_rows), std::memory_order_relaxed);
    padded_rows.fetch_add(static_cast<std::uint64_t>(rows_run - real_rows), std::memory_order_relaxed);
    batch_rows.Add(static_cast<std::uint64_t>(real_rows));
  }
  void BatchWaited(absl::Duration wait) { queue_time_us.Add(Microseconds(wait)); }

  std::atomic<std::uint64_t> calls{0};      // answered with success
  std::atomic<std::uint64_t> failed{0};     // answered with any other error than these:
  std::atomic<std::uint64_t> rejected{0};   // something was full: ResourceExhausted, Unavailable
  std::atomic<std::uint64_t> expired{0};    // DeadlineExceeded
  std::atomic<std::uint64_t> cancelled{0};  // Cancelled
  Histogram call_time_us;                   // of successful calls

  // Of the server's own batching; a device's is in EngineStatistics.
  std::atomic<std::uint64_t> batches{0};
  std::atomic<std::uint64_t> rows{0};
  std::atomic<std::uint64_t> padded_rows{0};
  Histogram batch_rows;
  Histogram queue_time_us;  // of calls that waited

 private:
  static std::uint64_t Microseconds(absl::Duration duration) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(0, absl::ToInt64Microseconds(duration)));
  }

  std::atomic<std::uint64_t>& CountOf(absl::StatusCode code) {
    switch (code) {
      case absl::StatusCode::kOk:
        return calls;
      case absl::StatusCode::kResourceExhausted:
      case absl::StatusCode::kUnavailable:
        return rejected;
      case absl::StatusCode::kDeadlineExceeded:
        return expired;
      case absl::StatusCode::kCancelled:
        return cancelled;
      default:
        return failed;
    }
  }
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_SIGNATURE_STATISTICS_H_
