// Counts and times requests, by model.
#ifndef SERVING_MONITORING_REQUEST_METRICS_H_
#define SERVING_MONITORING_REQUEST_METRICS_H_

#include <memory>

#include "absl/strings/string_view.h"
#include "serving/api/call_observer.h"

namespace tfipu::serving {

// Feeds TensorFlow's metrics registry with what dashboards for TensorFlow Serving read:
//   :tensorflow:serving:request_count{model_name, status}
//   :tensorflow:serving:request_latency{model_name, API, entrypoint}   microseconds, of calls that succeeded
//   :tensorflow:serving:runtime_latency{model_name, API, runtime}      microseconds
//   :tensorflow:serving:request_example_counts{model}                  of calls that succeeded
//   :tensorflow:serving:request_example_count_total{model}
// `API` is "Predict", "Classify", "Regress" or "MultiInference", but of REST's requests, as TensorFlow
// Serving has it, "predict", "classify", "regress" in request_latency. `entrypoint` is "GRPC" or "REST",
// `runtime` "TF1".
//
// A call counts for the model that it names if that is known, else for "": clients must not be able to fill
// memory.
//
// Thread-safe. Finished() takes a look-up in a table of the calling thread and a few atomic additions, and
// two locks when there are examples. One in a process.
class RequestMetrics {
 public:
  RequestMetrics();
  ~RequestMetrics();
  RequestMetrics(const RequestMetrics&) = delete;
  RequestMetrics& operator=(const RequestMetrics&) = delete;

  // Counts the calls of this model from now on, for ever.
  void AddModel(absl::string_view model);

  void Finished(const CallRecord& call);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tfipu::serving

#endif  // SERVING_MONITORING_REQUEST_METRICS_H_
