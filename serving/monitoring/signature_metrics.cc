#include "serving/monitoring/signature_metrics.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "serving/monitoring/prometheus_page.h"
#include "serving/monitoring/statistics_fields.h"

namespace tfipu::serving {
namespace {

constexpr char kPrefix[] = ":tensorflow_ipu:signature:";

struct Sample {
  std::string labels;
  const SignatureStatistics* statistics;
};

template <class Counters, class Distributions>
void Append(const std::vector<Sample>& samples, const Counters& counters, const Distributions& distributions,
            std::string* page) {
  if (samples.empty()) return;
  for (const SignatureCounter& counter : counters) {
    const std::string name = absl::StrCat(kPrefix, counter.name, "_count");
    AppendPrometheusType(name, "counter", page);
    for (const Sample& sample : samples) {
      AppendPrometheusValue(name, sample.labels, (sample.statistics->*counter.field).load(), page);
    }
  }
  for (const SignatureDistribution& distribution : distributions) {
    const std::string name = absl::StrCat(kPrefix, distribution.name);
    AppendPrometheusType(name, "histogram", page);
    for (const Sample& sample : samples) {
      AppendPrometheusHistogram(name, sample.labels, (sample.statistics->*distribution.field).Read(), page);
    }
  }
}

bool WasCalled(const SignatureStatistics& statistics) {
  return std::any_of(std::begin(kSignatureCounters), std::end(kSignatureCounters),
                     [&](const SignatureCounter& counter) { return (statistics.*counter.field).load() > 0; });
}

}  // namespace

std::string SignatureMetricsText(const std::vector<std::shared_ptr<const Servable>>& servables) {
  std::vector<Sample> called;
  std::vector<Sample> batched;
  for (const auto& servable : servables) {
    const std::string version = absl::StrCat(servable->id().version);
    for (const auto& [name, signature] : servable->signatures()) {
      const SignatureStatistics& statistics = *signature.statistics;
      if (!WasCalled(statistics)) continue;
      Sample sample{
          PrometheusLabels({{"model_name", servable->id().name}, {"version", version}, {"signature", name}}),
          &statistics};
      if (statistics.batches.load() > 0) batched.push_back(sample);
      called.push_back(std::move(sample));
    }
  }
  std::string page;
  Append(called, kSignatureCounters, kSignatureDistributions, &page);
  Append(batched, kBatchCounters, kBatchDistributions, &page);
  return page;
}

}  // namespace tfipu::serving
