// The names under which statistics are shown, as metrics and as JSON.
#ifndef SERVING_MONITORING_STATISTICS_FIELDS_H_
#define SERVING_MONITORING_STATISTICS_FIELDS_H_

#include <atomic>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "cc/engine/statistics.h"
#include "serving/servables/signature_statistics.h"

namespace tfipu::serving {

struct EngineCounter {
  absl::string_view name;
  std::uint64_t EngineStatistics::*field;
};
inline constexpr EngineCounter kEngineCounters[] = {
    {"calls", &EngineStatistics::calls},
    {"failed", &EngineStatistics::failed},
    {"rejected", &EngineStatistics::rejected},
    {"expired", &EngineStatistics::expired},
    {"cancelled", &EngineStatistics::cancelled},
    {"steps", &EngineStatistics::steps},
    {"dummy_steps", &EngineStatistics::dummy_steps},
    {"stalls", &EngineStatistics::stalls},
    {"rows", &EngineStatistics::rows},
    {"padded_rows", &EngineStatistics::padded_rows},
    {"runs", &EngineStatistics::runs},
    {"resets", &EngineStatistics::resets},
};
inline constexpr EngineCounter kEngineQueued = {"queued", &EngineStatistics::queued};

struct EngineDistribution {
  absl::string_view name;
  Histogram::Snapshot EngineStatistics::*field;
};
inline constexpr EngineDistribution kEngineDistributions[] = {
    {"fill_percent", &EngineStatistics::fill},
    {"queue_time_us", &EngineStatistics::queue_time},
    {"device_time_us", &EngineStatistics::device_time},
    {"call_time_us", &EngineStatistics::call_time},
};

struct SignatureCounter {
  absl::string_view name;
  std::atomic<std::uint64_t> SignatureStatistics::*field;
};
inline constexpr SignatureCounter kSignatureCounters[] = {
    {"calls", &SignatureStatistics::calls},         {"failed", &SignatureStatistics::failed},
    {"rejected", &SignatureStatistics::rejected},   {"expired", &SignatureStatistics::expired},
    {"cancelled", &SignatureStatistics::cancelled},
};
// Of the server's own batching: none where there is none.
inline constexpr SignatureCounter kBatchCounters[] = {
    {"batches", &SignatureStatistics::batches},
    {"rows", &SignatureStatistics::rows},
    {"padded_rows", &SignatureStatistics::padded_rows},
};

struct SignatureDistribution {
  absl::string_view name;
  Histogram SignatureStatistics::*field;
};
inline constexpr SignatureDistribution kSignatureDistributions[] = {
    {"call_time_us", &SignatureStatistics::call_time_us},
};
inline constexpr SignatureDistribution kBatchDistributions[] = {
    {"batch_rows", &SignatureStatistics::batch_rows},
    {"queue_time_us", &SignatureStatistics::queue_time_us},
};

}  // namespace tfipu::serving

#endif  // SERVING_MONITORING_STATISTICS_FIELDS_H_
