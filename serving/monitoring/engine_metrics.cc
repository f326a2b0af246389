#include "serving/monitoring/engine_metrics.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"

namespace tfipu::serving {
namespace {

constexpr char kPrefix[] = ":tensorflow_ipu:engine:";

struct Sample {
  std::string labels;  // without braces
  EngineStatistics statistics;
};

std::string Escaped(absl::string_view value) {
  return absl::StrReplaceAll(value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}});
}

// Scopes are "model/version".
std::string LabelsOf(const EngineKey& key) {
  const absl::string_view scope = key.scope;
  const std::size_t slash = scope.rfind('/');
  const absl::string_view model = scope.substr(0, slash);
  const absl::string_view version = slash == absl::string_view::npos ? "" : scope.substr(slash + 1);
  return absl::StrCat("model_name=\"", Escaped(model), "\",version=\"", Escaped(version), "\",engine=\"",
                      Escaped(key.name), "\"");
}

void AppendValues(absl::string_view name, absl::string_view type, std::uint64_t EngineStatistics::*field,
                  const std::vector<Sample>& samples, std::string* page) {
  absl::StrAppend(page, "# TYPE ", kPrefix, name, " ", type, "\n");
  for (const Sample& sample : samples) {
    absl::StrAppend(page, kPrefix, name, "{", sample.labels, "} ", sample.statistics.*field, "\n");
  }
}

void AppendHistograms(absl::string_view name, Histogram::Snapshot EngineStatistics::*field,
                      const std::vector<Sample>& samples, std::string* page) {
  absl::StrAppend(page, "# TYPE ", kPrefix, name, " histogram\n");
  for (const Sample& sample : samples) {
    const Histogram::Snapshot& histogram = sample.statistics.*field;
    std::uint64_t up_to = 0;
    // A line for each power of two, which are four buckets, as far as there are values.
    for (int bucket = 0; bucket < Histogram::kBuckets; ++bucket) {
      up_to += histogram.counts[bucket];
      if (bucket % 4 != 3) continue;
      if (bucket + 1 < Histogram::kBuckets) {
        absl::StrAppend(page, kPrefix, name, "_bucket{", sample.labels, ",le=\"", Histogram::LowerBound(bucket + 1) - 1,
                        "\"} ", up_to, "\n");
      }
      if (up_to >= histogram.count) break;
    }
    absl::StrAppend(page, kPrefix, name, "_bucket{", sample.labels, ",le=\"+Inf\"} ", histogram.count, "\n");
    absl::StrAppend(page, kPrefix, name, "_sum{", sample.labels, "} ", histogram.sum, "\n");
    absl::StrAppend(page, kPrefix, name, "_count{", sample.labels, "} ", histogram.count, "\n");
  }
}

}  // namespace

std::string EngineMetricsText(const Engines& engines) {
  if (engines.empty()) return "";
  std::vector<Sample> samples;
  for (const auto& [key, engine] : engines) samples.push_back({LabelsOf(key), engine->Statistics()});
  std::string page;
  AppendValues("calls_count", "counter", &EngineStatistics::calls, samples, &page);
  AppendValues("failed_count", "counter", &EngineStatistics::failed, samples, &page);
  AppendValues("rejected_count", "counter", &EngineStatistics::rejected, samples, &page);
  AppendValues("expired_count", "counter", &EngineStatistics::expired, samples, &page);
  AppendValues("cancelled_count", "counter", &EngineStatistics::cancelled, samples, &page);
  AppendValues("steps_count", "counter", &EngineStatistics::steps, samples, &page);
  AppendValues("dummy_steps_count", "counter", &EngineStatistics::dummy_steps, samples, &page);
  AppendValues("stalls_count", "counter", &EngineStatistics::stalls, samples, &page);
  AppendValues("rows_count", "counter", &EngineStatistics::rows, samples, &page);
  AppendValues("padded_rows_count", "counter", &EngineStatistics::padded_rows, samples, &page);
  AppendValues("runs_count", "counter", &EngineStatistics::runs, samples, &page);
  AppendValues("resets_count", "counter", &EngineStatistics::resets, samples, &page);
  AppendValues("queued", "gauge", &EngineStatistics::queued, samples, &page);
  AppendHistograms("fill_percent", &EngineStatistics::fill, samples, &page);
  AppendHistograms("queue_time_us", &EngineStatistics::queue_time, samples, &page);
  AppendHistograms("device_time_us", &EngineStatistics::device_time, samples, &page);
  AppendHistograms("call_time_us", &EngineStatistics::call_time, samples, &page);
  return page;
}

}  // namespace tfipu::serving
