// What the engines of exported models have done, in Prometheus' text format.
#ifndef SERVING_MONITORING_ENGINE_METRICS_H_
#define SERVING_MONITORING_ENGINE_METRICS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cc/engine/engine_manager.h"
#include "serving/core/servable_id.h"

namespace tfipu::serving {

using Engines = std::vector<std::pair<EngineKey, std::shared_ptr<Engine>>>;

// For each engine, with labels model_name, version and engine (and incarnation, if the version was loaded
// again from another folder): the fields of EngineStatistics as
//   :tensorflow_ipu:engine:calls_count, failed_count, rejected_count, expired_count, cancelled_count,
//   steps_count, dummy_steps_count, stalls_count, rows_count, padded_rows_count, runs_count, resets_count
//   (counters), queued (gauge), fill_percent, queue_time_us, device_time_us, call_time_us (histograms).
std::string EngineMetricsText(const Engines& engines);

// Those that belong to a version.
Engines EnginesOf(const ServableId& id, const Engines& engines);

}  // namespace tfipu::serving

#endif  // SERVING_MONITORING_ENGINE_METRICS_H_
