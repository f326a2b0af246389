#include "serving/monitoring/engine_metrics.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "serving/monitoring/prometheus_page.h"
#include "serving/monitoring/statistics_fields.h"

namespace tfipu::serving {
namespace {

constexpr char kPrefix[] = ":tensorflow_ipu:engine:";

struct Sample {
  std::string labels;
  EngineStatistics statistics;
};

std::string LabelsOf(const EngineKey& key) {
  const std::string version = absl::StrCat(key.scope.version);
  if (key.scope.incarnation == 0) {
    return PrometheusLabels({{"model_name", key.scope.model}, {"version", version}, {"engine", key.name}});
  }
  return PrometheusLabels({{"model_name", key.scope.model},
                           {"version", version},
                           {"incarnation", absl::StrCat(key.scope.incarnation)},
                           {"engine", key.name}});
}

void AppendValues(const std::string& name, absl::string_view type, std::uint64_t EngineStatistics::*field,
                  const std::vector<Sample>& samples, std::string* page) {
  AppendPrometheusType(name, type, page);
  for (const Sample& sample : samples) {
    AppendPrometheusValue(name, sample.labels, sample.statistics.*field, page);
  }
}

}  // namespace

std::string EngineMetricsText(const Engines& engines) {
  if (engines.empty()) return "";
  std::vector<Sample> samples;
  for (const auto& [key, engine] : engines) {
    samples.push_back({LabelsOf(key), engine->Statistics()});
  }
  std::string page;
  for (const EngineCounter& counter : kEngineCounters) {
    AppendValues(absl::StrCat(kPrefix, counter.name, "_count"), "counter", counter.field, samples, &page);
  }
  AppendValues(absl::StrCat(kPrefix, kEngineQueued.name), "gauge", kEngineQueued.field, samples, &page);
  for (const EngineDistribution& distribution : kEngineDistributions) {
    const std::string name = absl::StrCat(kPrefix, distribution.name);
    AppendPrometheusType(name, "histogram", &page);
    for (const Sample& sample : samples) {
      AppendPrometheusHistogram(name, sample.labels, sample.statistics.*distribution.field, &page);
    }
  }
  return page;
}

Engines EnginesOf(const ServableId& id, const Engines& engines) {
  Engines own;
  for (const auto& [key, engine] : engines) {
    if (key.scope.model == id.name && key.scope.version == id.version) own.emplace_back(key, engine);
  }
  return own;
}

}  // namespace tfipu::serving
