#include "serving/rest/statistics_json.h"

#include <algorithm>

#include "serving/json/writer.h"
#include "serving/monitoring/statistics_fields.h"

namespace tfipu::serving {
namespace {

void WriteDistribution(const Histogram::Snapshot& values, json::Writer* json) {
  json->Raw("{\"count\": ");
  json->Integer(values.count);
  json->Raw(", \"mean\": ");
  json->Float(values.Mean());
  const struct {
    absl::string_view name;
    double share;
  } quantiles[] = {{", \"p50\": ", 0.5}, {", \"p90\": ", 0.9}, {", \"p99\": ", 0.99}};
  for (const auto& [name, share] : quantiles) {
    json->Raw(name);
    json->Float(values.Quantile(share));
  }
  json->Raw(", \"max\": ");
  json->Integer(values.max);
  json->Raw(", \"histogram\": [");
  absl::string_view separator = "[";
  for (int bucket = 0; bucket < Histogram::kBuckets; ++bucket) {
    if (values.counts[bucket] == 0) continue;
    json->Raw(separator);
    json->Integer(bucket + 1 < Histogram::kBuckets
                      ? std::min(Histogram::LowerBound(bucket + 1) - 1, values.max)
                      : values.max);
    json->Raw(", ");
    json->Integer(values.counts[bucket]);
    json->Raw("]");
    separator = ", [";
  }
  json->Raw("]}");
}

void WriteName(absl::string_view name, json::Writer* json) {
  json->Raw(", ");
  json->String(name);
  json->Raw(": ");
}

void WriteBatching(const SignatureStatistics& statistics, json::Writer* json) {
  json->Raw(", \"batching\": {");
  absl::string_view separator = "";
  for (const SignatureCounter& counter : kBatchCounters) {
    json->Raw(separator);
    json->String(counter.name);
    json->Raw(": ");
    json->Integer((statistics.*counter.field).load());
    separator = ", ";
  }
  for (const SignatureDistribution& distribution : kBatchDistributions) {
    WriteName(distribution.name, json);
    WriteDistribution((statistics.*distribution.field).Read(), json);
  }
  json->Raw("}");
}

void WriteSignature(const Signature& signature, json::Writer* json) {
  const SignatureStatistics& statistics = *signature.statistics;
  json->Raw("{\"signature\": ");
  json->String(signature.name);
  json->Raw(", \"way\": ");
  json->String(signature.way);
  json->Raw(", \"engines\": [");
  absl::string_view separator = "";
  for (const std::string& engine : signature.engines) {
    json->Raw(separator);
    json->String(engine);
    separator = ", ";
  }
  json->Raw("]");
  for (const SignatureCounter& counter : kSignatureCounters) {
    WriteName(counter.name, json);
    json->Integer((statistics.*counter.field).load());
  }
  for (const SignatureDistribution& distribution : kSignatureDistributions) {
    WriteName(distribution.name, json);
    WriteDistribution((statistics.*distribution.field).Read(), json);
  }
  if (statistics.batches.load() > 0) WriteBatching(statistics, json);
  json->Raw("}");
}

void WriteEngine(absl::string_view name, const EngineStatistics& statistics, json::Writer* json) {
  json->Raw("{\"engine\": ");
  json->String(name);
  for (const EngineCounter& counter : kEngineCounters) {
    WriteName(counter.name, json);
    json->Integer(statistics.*counter.field);
  }
  WriteName(kEngineQueued.name, json);
  json->Integer(statistics.*kEngineQueued.field);
  for (const EngineDistribution& distribution : kEngineDistributions) {
    WriteName(distribution.name, json);
    WriteDistribution(statistics.*distribution.field, json);
  }
  json->Raw("}");
}

}  // namespace

std::string ModelStatisticsJson(const Servable& servable, const Engines& engines) {
  std::string text;
  json::Writer json(&text);
  json.Raw("{\"model_spec\": {\"name\": ");
  json.String(servable.id().name);
  json.Raw(", \"version\": \"");
  json.Integer(servable.id().version);
  json.Raw("\"}, \"signatures\": [");
  absl::string_view separator = "";
  for (const auto& [_, signature] : servable.signatures()) {
    // Such as "__saved_model_init_op": not meant to be called.
    if (signature.method_name.empty()) continue;
    json.Raw(separator);
    WriteSignature(signature, &json);
    separator = ", ";
  }
  json.Raw("], \"engines\": [");
  separator = "";
  for (const auto& [key, engine] : EnginesOf(servable.id(), engines)) {
    json.Raw(separator);
    WriteEngine(key.name, engine->Statistics(), &json);
    separator = ", ";
  }
  json.Raw("]}\n");
  json.Flush();
  return text;
}

}  // namespace tfipu::serving
