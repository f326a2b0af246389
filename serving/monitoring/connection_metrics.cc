#include "serving/monitoring/connection_metrics.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "serving/monitoring/prometheus_page.h"

namespace tfipu::serving {

std::string ConnectionMetricsText(const net::MemoryBudget::Usage& usage) {
  const struct {
    const char* name;
    const char* type;
    std::uint64_t value;
  } metrics[] = {
      {"held_bytes", "gauge", usage.held},
      {"held_bytes_limit", "gauge", usage.limit},
      {"most_held_bytes", "gauge", usage.most_held},
      {"most_held_bytes_of_one", "gauge", usage.most_held_by_one},
      {"refused_count", "counter", usage.refused},
  };
  std::string page;
  for (const auto& metric : metrics) {
    const std::string name = absl::StrCat(":tensorflow_ipu:connections:", metric.name);
    AppendPrometheusType(name, metric.type, &page);
    AppendPrometheusValue(name, "", metric.value, &page);
  }
  return page;
}

}  // namespace tfipu::serving
