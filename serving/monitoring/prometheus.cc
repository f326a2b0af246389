#include "serving/monitoring/prometheus.h"

#include <cfloat>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "xla/tsl/lib/monitoring/collection_registry.h"

namespace tfipu::serving {
namespace {

using tsl::monitoring::CollectedMetrics;
using tsl::monitoring::MetricDescriptor;
using tsl::monitoring::MetricKind;
using tsl::monitoring::Point;
using tsl::monitoring::ValueType;

// `name` with `other` in place of what Prometheus does not allow.
std::string Allowed(absl::string_view name, char other) {
  std::string allowed = !name.empty() && absl::ascii_isdigit(name.front()) ? "_" : "";
  for (const char c : name) allowed.push_back(absl::ascii_isalnum(c) || c == '_' ? c : other);
  return allowed;
}

std::string MetricName(absl::string_view path) { return Allowed(path, ':'); }

// Without the closing brace, so that a histogram can add its own.
std::string Labels(const Point& point) {
  std::string labels = "{";
  for (const Point::Label& label : point.labels) {
    absl::StrAppend(&labels, labels.size() > 1 ? "," : "", Allowed(label.name, '_'), "=\"",
                    absl::StrReplaceAll(label.value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}), "\"");
  }
  return labels;
}

void AppendHistogram(const std::string& name, const Point& point, std::string* page) {
  const tensorflow::HistogramProto& histogram = point.histogram_value;
  const std::string labels = Labels(point);
  const char* const comma = point.labels.empty() ? "" : ",";
  double up_to = 0;
  for (int i = 0; i < histogram.bucket_size(); ++i) {
    up_to += histogram.bucket(i);
    const double limit = histogram.bucket_limit(i);
    const std::string text =
        limit >= DBL_MAX || i + 1 == histogram.bucket_size() ? "+Inf" : absl::StrCat(limit);
    absl::StrAppend(page, name, "_bucket", labels, comma, "le=\"", text, "\"} ",
                    static_cast<std::int64_t>(up_to), "\n");
  }
  absl::StrAppend(page, name, "_sum", labels, "} ", histogram.sum(), "\n");
  absl::StrAppend(page, name, "_count", labels, "} ", static_cast<std::int64_t>(up_to), "\n");
}

void AppendPoint(const std::string& name, const Point& point, std::string* page) {
  switch (point.value_type) {
    case ValueType::kInt64:
      absl::StrAppend(page, name, Labels(point), "} ", point.int64_value, "\n");
      break;
    case ValueType::kBool:
      absl::StrAppend(page, name, Labels(point), "} ", point.bool_value ? 1 : 0, "\n");
      break;
    case ValueType::kDouble:
      absl::StrAppend(page, name, Labels(point), "} ", point.double_value, "\n");
      break;
    case ValueType::kHistogram:
      AppendHistogram(name, point, page);
      break;
    case ValueType::kString:
    case ValueType::kPercentiles:
      break;  // Prometheus has nothing for these
  }
}

}  // namespace

std::string PrometheusTextOf(const CollectedMetrics& metrics) {
  std::string page;
  for (const auto& [path, descriptor] : metrics.metric_descriptor_map) {
    const bool histogram = descriptor->value_type == ValueType::kHistogram;
    if (descriptor->value_type == ValueType::kString || descriptor->value_type == ValueType::kPercentiles)
      continue;
    const std::string name = MetricName(path);
    const char* const type = histogram                                            ? "histogram"
                             : descriptor->metric_kind == MetricKind::kCumulative ? "counter"
                                                                                  : "gauge";
    absl::StrAppend(&page, "# TYPE ", name, " ", type, "\n");
    const auto points = metrics.point_set_map.find(path);
    if (points == metrics.point_set_map.end()) continue;
    for (const auto& point : points->second->points) AppendPoint(name, *point, &page);
  }
  return page;
}

std::string PrometheusText() {
  tsl::monitoring::CollectionRegistry::CollectMetricsOptions options;
  return PrometheusTextOf(*tsl::monitoring::CollectionRegistry::Default()->CollectMetrics(options));
}

}  // namespace tfipu::serving
