// All metrics of the process in Prometheus' text format.
#ifndef SERVING_MONITORING_PROMETHEUS_H_
#define SERVING_MONITORING_PROMETHEUS_H_

#include <string>

#include "xla/tsl/lib/monitoring/collected_metrics.h"

namespace tfipu::serving {

inline constexpr char kPrometheusContentType[] = "text/plain; version=0.0.4; charset=utf-8";

// What TensorFlow's registry holds: its own metrics and ours. "/tensorflow/serving/request_count" becomes
// ":tensorflow:serving:request_count"; distributions become histograms.
std::string PrometheusText();

// The same of one collection.
std::string PrometheusTextOf(const tsl::monitoring::CollectedMetrics& metrics);

}  // namespace tfipu::serving

#endif  // SERVING_MONITORING_PROMETHEUS_H_
