// Writes a share of the requests with their answers to files.
#ifndef SERVING_MONITORING_REQUEST_LOG_H_
#define SERVING_MONITORING_REQUEST_LOG_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "serving/core/servable_id.h"
#include "serving/sources/model_config.h"
#include "tensorflow_serving/apis/prediction_log.pb.h"

namespace tfipu::serving {

// A model's `logging_config` asks for it:
//   logging_config {
//     log_collector_config { type: "tfrecord" filename_prefix: "/var/log/serving/mymodel" }
//     sampling_config { sampling_rate: 0.01 }
//   }
// Each logged call is one TFRecord of a tensorflow.serving.PredictionLog with log_metadata: the model and version that
// answered, the sampling rate and the time. Files are named <filename_prefix>-<UTC date and time>-<process id>-<number>.tfrecord; a new
// one is begun after kMaxFileBytes or when the config changes. They can be used as warm-up requests as they are.
//
// Thread-safe. Records are written by one background thread; when it falls behind, records are dropped and counted in
// :tensorflow:serving:request_log_count{model_name, status_code}, never calls delayed.
class RequestLog {
 public:
  static constexpr std::size_t kMaxFileBytes = std::size_t{256} << 20;
  static constexpr std::size_t kMaxWaitingBytes = std::size_t{64} << 20;

  RequestLog();
  // Writes what waits.
  ~RequestLog();
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  // InvalidArgument when a model's logging config cannot be followed: a type that is neither empty nor "tfrecord", no
  // prefix, a sampling rate outside 0 to 1. No rate means 0.
  static absl::Status Check(const std::vector<ConfiguredModel>& models);

  // From now on, these models are logged. Those that Check() refuses are not.
  void Configure(const std::vector<ConfiguredModel>& models);

  // Whether this call is to be logged.
  bool Wants(const ServableId& servable) const;

  void Add(const ServableId& servable, std::unique_ptr<tensorflow::serving::PredictionLog> log);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tfipu::serving

#endif  // SERVING_MONITORING_REQUEST_LOG_H_
