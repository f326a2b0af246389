#include "serving/api/metric_increases.h"

#include "xla/tsl/lib/monitoring/collection_registry.h"

namespace tfipu::serving {

MetricIncreases::MetricIncreases(const tensorflow::serving::ReloadConfigRequest& request)
    : request_(request), before_(request.metric_names().empty() ? Values() : Read()) {}

MetricIncreases::Values MetricIncreases::Read() {
  const auto metrics = tsl::monitoring::CollectionRegistry::Default()->CollectMetrics({});
  Values values;
  for (const auto& [name, points] : metrics->point_set_map) {
    for (const auto& point : points->points) {
      if (point->value_type == tsl::monitoring::ValueType::kInt64) values[name] += point->int64_value;
    }
  }
  return values;
}

void MetricIncreases::AddTo(tensorflow::serving::ReloadConfigResponse* response) const {
  if (request_.metric_names().empty()) return;
  const Values after = Read();
  const auto value = [](const Values& values, const std::string& name) {
    const auto found = values.find(name);
    return found == values.end() ? 0 : found->second;
  };
  for (const std::string& name : request_.metric_names()) {
    auto* const metric = response->add_metric();
    metric->set_name(name);
    metric->set_int64_value_increase(value(after, name) - value(before_, name));
  }
}

}  // namespace tfipu::serving
