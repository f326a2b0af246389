// Writes samples in Prometheus' text format.
#ifndef SERVING_MONITORING_PROMETHEUS_PAGE_H_
#define SERVING_MONITORING_PROMETHEUS_PAGE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "cc/base/histogram.h"

namespace tfipu::serving {

// {name="value",...} without the braces; values are escaped.
std::string PrometheusLabels(const std::vector<std::pair<absl::string_view, absl::string_view>>& labels);

// One metric and its samples.
void AppendPrometheusType(absl::string_view name, absl::string_view type, std::string* page);
void AppendPrometheusValue(absl::string_view name, absl::string_view labels, std::uint64_t value,
                           std::string* page);
// A line for each power of two, as far as there are values.
void AppendPrometheusHistogram(absl::string_view name, absl::string_view labels,
                               const Histogram::Snapshot& histogram, std::string* page);

}  // namespace tfipu::serving

#endif  // SERVING_MONITORING_PROMETHEUS_PAGE_H_
