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

struct Owner {
  absl::string_view model;
  absl::string_view version;
};

// Scopes are "model/version".
Owner OwnerOf(const EngineKey& key) {
  const absl::string_view scope = key.scope;
  const std::size_t slash = scope.rfind('/');
  return {scope.substr(0, slash), slash == absl::string_view::npos ? "" : scope.substr(slash + 1)};
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
    const Owner owner = OwnerOf(key);
    samples.push_back(
        {PrometheusLabels({{"model_name", owner.model}, {"version", owner.version}, {"engine", key.name}}),
         engine->Statistics()});
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
    const Owner owner = OwnerOf(key);
    // A version that was loaded again from another folder has a scope of its own, "model#1/version".
    const absl::string_view model = owner.model.substr(0, owner.model.rfind('#'));
    if ((owner.model == id.name || model == id.name) && owner.version == absl::StrCat(id.version)) {
      own.emplace_back(key, engine);
    }
  }
  return own;
}

}  // namespace tfipu::serving
