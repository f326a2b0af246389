// What became of the calls of the models' signatures, in Prometheus' text format.
#ifndef SERVING_MONITORING_SIGNATURE_METRICS_H_
#define SERVING_MONITORING_SIGNATURE_METRICS_H_

#include <memory>
#include <string>
#include <vector>

#include "serving/servables/servable.h"

namespace tfipu::serving {

// For each signature that was called, with labels model_name, version and signature: the fields of
// SignatureStatistics as
//   :tensorflow_ipu:signature:calls_count, failed_count, rejected_count, expired_count, cancelled_count
//   (counters), call_time_us (histogram), and where the server batches
//   :tensorflow_ipu:signature:batches_count, rows_count, padded_rows_count (counters), batch_rows,
//   queue_time_us (histograms).
std::string SignatureMetricsText(const std::vector<std::shared_ptr<const Servable>>& servables);

}  // namespace tfipu::serving

#endif  // SERVING_MONITORING_SIGNATURE_METRICS_H_
