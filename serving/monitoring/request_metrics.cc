#include "serving/monitoring/request_metrics.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cfloat>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/synchronization/mutex.h"
#include "xla/tsl/lib/monitoring/collection_registry.h"
#include "xla/tsl/lib/monitoring/counter.h"
#include "xla/tsl/lib/monitoring/metric_def.h"
#include "xla/tsl/lib/monitoring/sampler.h"

namespace tfipu::serving {
namespace {

using tsl::monitoring::CollectionRegistry;
using tsl::monitoring::MetricCollectorGetter;
using tsl::monitoring::MetricDef;
using tsl::monitoring::MetricKind;

constexpr std::array<absl::string_view, 4> kApis = {"Predict", "Classify", "Regress", "MultiInference"};
constexpr std::array<absl::string_view, 2> kEntrypoints = {"GRPC", "REST"};
constexpr int kCodes = 17;    // absl::StatusCode
constexpr int kBuckets = 34;  // the last is open

// Microseconds: 10, 18, 32.4, ... as TensorFlow Serving's.
const std::array<double, kBuckets>& BucketLimits() {
  static const std::array<double, kBuckets> limits = [] {
    std::array<double, kBuckets> made{};
    double limit = 10;
    for (double& one : made) {
      one = limit;
      limit *= 1.8;
    }
    made.back() = DBL_MAX;
    return made;
  }();
  return limits;
}

struct Distribution {
  std::array<std::atomic<std::uint64_t>, kBuckets> counts{};
  std::atomic<std::uint64_t> sum{0};

  void Add(absl::Duration duration) {
    const auto microseconds = static_cast<double>(absl::ToInt64Microseconds(duration));
    const auto& limits = BucketLimits();
    const auto bucket = std::upper_bound(limits.begin(), limits.end() - 1, microseconds) - limits.begin();
    counts[bucket].fetch_add(1, std::memory_order_relaxed);
    sum.fetch_add(static_cast<std::uint64_t>(std::max(0.0, microseconds)), std::memory_order_relaxed);
  }

  bool Read(tensorflow::HistogramProto* proto) const {
    double count = 0;
    for (int i = 0; i < kBuckets; ++i) {
      const auto in_bucket = static_cast<double>(counts[i].load(std::memory_order_relaxed));
      proto->add_bucket_limit(BucketLimits()[i]);
      proto->add_bucket(in_bucket);
      count += in_bucket;
    }
    proto->set_num(count);
    proto->set_sum(static_cast<double>(sum.load(std::memory_order_relaxed)));
    return count > 0;
  }
};

struct ModelMetrics {
  explicit ModelMetrics(std::string model) : name(std::move(model)) {}

  const std::string name;
  std::array<std::atomic<std::int64_t>, kCodes> requests{};
  std::array<std::array<Distribution, kEntrypoints.size()>, kApis.size()> latency;
  std::array<Distribution, kApis.size()> runtime;
};

// Position of a name, or `size`.
template <std::size_t size>
std::size_t IndexOf(const std::array<absl::string_view, size>& names, absl::string_view name) {
  return std::find(names.begin(), names.end(), name) - names.begin();
}

}  // namespace

class RequestMetrics::Impl {
 public:
  Impl()
      : requests_("/tensorflow/serving/request_count", "Requests by model and status.", "model_name",
                  "status"),
        latency_("/tensorflow/serving/request_latency",
                 "Time from a request's arrival to its answer in microseconds.", "model_name", "API",
                 "entrypoint"),
        runtime_("/tensorflow/serving/runtime_latency",
                 "Time that a request spent in the model in microseconds.", "model_name", "API", "runtime"),
        examples_(tsl::monitoring::Sampler<1>::New(
            {"/tensorflow/serving/request_example_counts", "Examples in a request.", "model"},
            tsl::monitoring::Buckets::Exponential(1, 2, 15))),
        examples_total_(tsl::monitoring::Counter<1>::New("/tensorflow/serving/request_example_count_total",
                                                         "Examples in all requests.", "model")) {
    AddModel("");
    CollectionRegistry* const registry = CollectionRegistry::Default();
    handles_[0] = registry->Register(&requests_, [this](MetricCollectorGetter getter) {
      auto collector = getter.Get(&requests_);
      absl::MutexLock lock(&mutex_);
      for (const auto& [name, model] : models_) {
        for (int code = 0; code < kCodes; ++code) {
          const std::int64_t count = model->requests[code].load(std::memory_order_relaxed);
          if (count == 0) continue;
          collector.CollectValue({name, absl::StatusCodeToString(static_cast<absl::StatusCode>(code))},
                                 count);
        }
      }
    });
    handles_[1] = registry->Register(&latency_, [this](MetricCollectorGetter getter) {
      auto collector = getter.Get(&latency_);
      absl::MutexLock lock(&mutex_);
      for (const auto& [name, model] : models_) {
        for (std::size_t api = 0; api < kApis.size(); ++api) {
          for (std::size_t entry = 0; entry < kEntrypoints.size(); ++entry) {
            tensorflow::HistogramProto proto;
            if (!model->latency[api][entry].Read(&proto)) continue;
            const bool rest = kEntrypoints[entry] == "REST";
            collector.CollectValue({name, rest ? absl::AsciiStrToLower(kApis[api]) : std::string(kApis[api]),
                                    std::string(kEntrypoints[entry])},
                                   std::move(proto));
          }
        }
      }
    });
    handles_[2] = registry->Register(&runtime_, [this](MetricCollectorGetter getter) {
      auto collector = getter.Get(&runtime_);
      absl::MutexLock lock(&mutex_);
      for (const auto& [name, model] : models_) {
        for (std::size_t api = 0; api < kApis.size(); ++api) {
          tensorflow::HistogramProto proto;
          if (!model->runtime[api].Read(&proto)) continue;
          collector.CollectValue({name, std::string(kApis[api]), "TF1"}, std::move(proto));
        }
      }
    });
  }

  void AddModel(absl::string_view name) {
    absl::MutexLock lock(&mutex_);
    auto& model = models_[std::string(name)];
    if (model == nullptr) model = std::make_shared<ModelMetrics>(std::string(name));
    generation_.fetch_add(1, std::memory_order_release);
  }

  void CountExamples(const ModelMetrics& model, int examples) {
    examples_->GetCell(model.name)->Add(examples);
    examples_total_->GetCell(model.name)->IncrementBy(examples);
  }

  ModelMetrics& Find(absl::string_view name) {
    // Shared, as a thread may outlive this object.
    struct Known {
      const Impl* owner = nullptr;
      std::uint64_t generation = 0;
      absl::flat_hash_map<std::string, std::shared_ptr<ModelMetrics>> models;
    };
    thread_local Known known;
    const std::uint64_t generation = generation_.load(std::memory_order_acquire);
    if (known.owner != this || known.generation != generation) {
      absl::MutexLock lock(&mutex_);
      known.models = {models_.begin(), models_.end()};
      known.owner = this;
      known.generation = generation;
    }
    auto found = known.models.find(name);
    if (found == known.models.end()) found = known.models.find("");
    return *found->second;
  }

 private:
  MetricDef<MetricKind::kCumulative, std::int64_t, 2> requests_;
  MetricDef<MetricKind::kCumulative, tensorflow::HistogramProto, 3> latency_, runtime_;
  const std::unique_ptr<tsl::monitoring::Sampler<1>> examples_;
  const std::unique_ptr<tsl::monitoring::Counter<1>> examples_total_;
  absl::Mutex mutex_;
  std::map<std::string, std::shared_ptr<ModelMetrics>> models_ ABSL_GUARDED_BY(mutex_);
  std::atomic<std::uint64_t> generation_{0};
  std::array<std::unique_ptr<CollectionRegistry::RegistrationHandle>, 3> handles_;
};

RequestMetrics::RequestMetrics() : impl_(std::make_unique<Impl>()) {}
RequestMetrics::~RequestMetrics() = default;

void RequestMetrics::AddModel(absl::string_view model) { impl_->AddModel(model); }

void RequestMetrics::Finished(const CallRecord& call) {
  ModelMetrics& model = impl_->Find(call.model);
  const std::size_t api = IndexOf(kApis, call.api);
  const int code = std::min(static_cast<int>(call.status.code()), kCodes - 1);
  model.requests[code].fetch_add(1, std::memory_order_relaxed);
  const std::size_t entrypoint = IndexOf(kEntrypoints, call.entrypoint);
  // Times are kept for the APIs that dashboards know; another's must not pass for one of them.
  if (api == kApis.size() || entrypoint == kEntrypoints.size()) return;
  if (call.status.ok()) model.latency[api][entrypoint].Add(call.latency);
  if (call.runtime > absl::ZeroDuration()) model.runtime[api].Add(call.runtime);
  if (call.examples > 0) impl_->CountExamples(model, call.examples);
}

}  // namespace tfipu::serving
