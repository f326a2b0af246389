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

// A JSON string. Names of models and engines are UTF-8, so only these need care.
std::string Quoted(absl::string_view value) {
  std::string quoted = "\"";
  for (const char c : value) {
    if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppend(&quoted, "\\u00", absl::Hex(c, absl::kZeroPad2));
    } else {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += c;
    }
  }
  return quoted + "\"";
}

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

std::string LabelsOf(const EngineKey& key) {
  const Owner owner = OwnerOf(key);
  return absl::StrCat("model_name=\"", Escaped(owner.model), "\",version=\"", Escaped(owner.version),
                      "\",engine=\"", Escaped(key.name), "\"");
}

struct Value {
  absl::string_view name;
  std::uint64_t EngineStatistics::*field;
};

constexpr Value kCounters[] = {
    {"calls", &EngineStatistics::calls},
    {"failed", &EngineStatistics::failed},
    {"rejected", &EngineStatistics::rejected},
    {"expired", &EngineStatistics::expired},
    {"cancelled", &EngineStatistics::cancelled},
    {"steps", &EngineStatistics::steps},
    {"dummy_steps", &EngineStatistics::dummy_steps},
    {"stalls", &EngineStatistics::stalls},
    {"rows", &EngineStatistics::rows},
    {"padded_rows", &EngineStatistics::padded_rows},
    {"runs", &EngineStatistics::runs},
    {"resets", &EngineStatistics::resets},
};
constexpr Value kQueued = {"queued", &EngineStatistics::queued};

struct Distribution {
  absl::string_view name;
  Histogram::Snapshot EngineStatistics::*field;
};

constexpr Distribution kDistributions[] = {
    {"fill_percent", &EngineStatistics::fill},
    {"queue_time_us", &EngineStatistics::queue_time},
    {"device_time_us", &EngineStatistics::device_time},
    {"call_time_us", &EngineStatistics::call_time},
};

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
        absl::StrAppend(page, kPrefix, name, "_bucket{", sample.labels, ",le=\"",
                        Histogram::LowerBound(bucket + 1) - 1, "\"} ", up_to, "\n");
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
  for (const Value& counter : kCounters) {
    AppendValues(absl::StrCat(counter.name, "_count"), "counter", counter.field, samples, &page);
  }
  AppendValues(kQueued.name, "gauge", kQueued.field, samples, &page);
  for (const Distribution& distribution : kDistributions) {
    AppendHistograms(distribution.name, distribution.field, samples, &page);
  }
  return page;
}

std::string EngineStatisticsJson(const ServableId& id, const Engines& engines) {
  std::string json = absl::StrCat("{\"model_spec\": {\"name\": ", Quoted(id.name), ", \"version\": \"",
                                  id.version, "\"}, \"engines\": [");
  absl::string_view separator = "";
  for (const auto& [key, engine] : engines) {
    const Owner owner = OwnerOf(key);
    // A version that was loaded again from another folder has a scope of its own, "model#1/version".
    const absl::string_view model = owner.model.substr(0, owner.model.rfind('#'));
    if ((owner.model != id.name && model != id.name) || owner.version != absl::StrCat(id.version)) continue;
    const EngineStatistics statistics = engine->Statistics();
    absl::StrAppend(&json, separator, "{\"engine\": ", Quoted(key.name));
    for (const Value& counter : kCounters) {
      absl::StrAppend(&json, ", \"", counter.name, "\": ", statistics.*counter.field);
    }
    absl::StrAppend(&json, ", \"", kQueued.name, "\": ", statistics.*kQueued.field);
    for (const Distribution& distribution : kDistributions) {
      const Histogram::Snapshot& values = statistics.*distribution.field;
      absl::StrAppend(&json, ", \"", distribution.name, "\": {\"count\": ", values.count,
                      ", \"mean\": ", values.Mean(), ", \"p50\": ", values.Quantile(0.5),
                      ", \"p90\": ", values.Quantile(0.9), ", \"p99\": ", values.Quantile(0.99),
                      ", \"max\": ", values.max, "}");
    }
    absl::StrAppend(&json, "}");
    separator = ", ";
  }
  absl::StrAppend(&json, "]}\n");
  return json;
}

}  // namespace tfipu::serving
