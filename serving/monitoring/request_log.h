// Writes a share of the requests with their answers to files.
#ifndef SERVING_MONITORING_REQUEST_LOG_H_
#define SERVING_MONITORING_REQUEST_LOG_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "serving/core/servable_id.h"
#include "serving/sources/model_config.h"
#include "tensorflow_serving/apis/prediction_log.pb.h"

namespace tfipu::serving {

// A model's `logging_config` asks for it:
//   logging_config {
//     log_collector_config { type: "tfrecord" filename_prefix: "/var/log/serving/my_model" }
//     sampling_config { sampling_rate: 0.01 }
//   }
// Each logged call is a TFRecord of a tensorflow.serving.PredictionLog whose log_metadata says which model
// and version answered, when, and with which sampling config. Files are named <filename_prefix>-<start as
// YYYYMMDD-HHMMSS>-<process id>- <number>.tfrecord; a new one is begun after kMaxFileBytes. They can be used
// as warm-up requests as they are.
//
// Thread-safe. One background thread writes, and flushes when it has nothing left to write. When it falls
// behind, records are dropped, never calls delayed. :tensorflow:serving:request_log_count{model_name,
// status_code} counts both.
class RequestLog {
 public:
  static constexpr std::size_t kMaxFileBytes = std::size_t{256} << 20;
  static constexpr std::size_t kMaxWaitingBytes = std::size_t{64} << 20;

  RequestLog();
  // Writes what waits.
  ~RequestLog();
  RequestLog(const RequestLog&) = delete;
  RequestLog& operator=(const RequestLog&) = delete;

  // InvalidArgument when a model's logging config cannot be followed: a type that is neither empty nor
  // "tfrecord", a rate without a prefix, a rate outside 0 to 1, per_task_sampling_configs, or a
  // custom_logging_config.
  static absl::Status Check(const std::vector<ConfiguredModel>& models);

  // From now on these models are logged, as Check() has approved.
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
