// What connections make the server hold, as Prometheus reads it.
#ifndef SERVING_MONITORING_CONNECTION_METRICS_H_
#define SERVING_MONITORING_CONNECTION_METRICS_H_

#include <string>

#include "serving/net/memory_budget.h"

namespace tfipu::serving {

// :tensorflow_ipu:connections:held_bytes, held_bytes_limit, most_held_bytes, most_held_bytes_of_one (gauges)
// and refused_count (a counter: how often something was refused for it).
std::string ConnectionMetricsText(const net::MemoryBudget::Usage& usage);

}  // namespace tfipu::serving

#endif  // SERVING_MONITORING_CONNECTION_METRICS_H_
