#include "serving/monitoring/prometheus_page.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace tfipu::serving {

std::string PrometheusLabels(const std::vector<std::pair<absl::string_view, absl::string_view>>& labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    absl::StrAppend(&text, text.empty() ? "" : ",", name, "=\"",
                    absl::StrReplaceAll(value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}), "\"");
  }
  return text;
}

void AppendPrometheusType(absl::string_view name, absl::string_view type, std::string* page) {
  absl::StrAppend(page, "# TYPE ", name, " ", type, "\n");
}

void AppendPrometheusValue(absl::string_view name, absl::string_view labels, std::uint64_t value,
                           std::string* page) {
  absl::StrAppend(page, name, "{", labels, "} ", value, "\n");
}

void AppendPrometheusHistogram(absl::string_view name, absl::string_view labels,
                               const Histogram::Snapshot& histogram, std::string* page) {
  std::uint64_t up_to = 0;
  for (int bucket = 0; bucket < Histogram::kBuckets; ++bucket) {
    up_to += histogram.counts[bucket];
    // Four buckets are a power of two.
    if (bucket % 4 != 3) continue;
    if (bucket + 1 < Histogram::kBuckets) {
      absl::StrAppend(page, name, "_bucket{", labels, ",le=\"", Histogram::LowerBound(bucket + 1) - 1, "\"} ",
                      up_to, "\n");
    }
    if (up_to >= histogram.count) break;
  }
  absl::StrAppend(page, name, "_bucket{", labels, ",le=\"+Inf\"} ", histogram.count, "\n");
  absl::StrAppend(page, name, "_sum{", labels, "} ", histogram.sum, "\n");
  absl::StrAppend(page, name, "_count{", labels, "} ", histogram.count, "\n");
}

}  // namespace tfipu::serving
