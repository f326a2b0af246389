// What the engines of exported models have done, in Prometheus' text format and as JSON.
#ifndef SERVING_MONITORING_ENGINE_METRICS_H_
#define SERVING_MONITORING_ENGINE_METRICS_H_

#include <string>
#include <utility>
#include <vector>

#include "cc/engine/engine_manager.h"
#include "serving/core/servable_id.h"

namespace tfipu::serving {

using Engines = std::vector<std::pair<EngineKey, std::shared_ptr<Engine>>>;

// For each engine, with labels model_name, version and engine: the fields of EngineStatistics as
//   :tensorflow_ipu:engine:calls_count, failed_count, rejected_count, expired_count, cancelled_count,
//   steps_count, dummy_steps_count, stalls_count, rows_count, padded_rows_count, runs_count, resets_count
//   (counters), queued (gauge), fill_percent, queue_time_us, device_time_us, call_time_us (histograms).
std::string EngineMetricsText(const Engines& engines);

// The same of the engines of one version, as JSON:
//   {"model_spec": {"name": "m", "version": "1"},
//    "engines": [{"engine": "...", "calls": 7, ..., "fill_percent": {"count": 7, "mean": 62.5, "p50": ...,
//    "p90": ...,
//                 "p99": ..., "max": ...}, "queue_time_us": {...}, "device_time_us": {...}, "call_time_us":
//                 {...}}]}
// `engines` is empty for an ordinary model.
std::string EngineStatisticsJson(const ServableId& id, const Engines& engines);

}  // namespace tfipu::serving

#endif  // SERVING_MONITORING_ENGINE_METRICS_H_
