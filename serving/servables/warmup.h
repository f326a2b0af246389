// Replays recorded requests on a model before it is served.
#ifndef SERVING_SERVABLES_WARMUP_H_
#define SERVING_SERVABLES_WARMUP_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "serving/servables/servable.h"
#include "tensorflow_serving/apis/prediction_log.pb.h"

namespace tfipu::serving {

// Runs one record on a servable.
using Replay = std::function<absl::Status(const Servable&, const tensorflow::serving::PredictionLog&)>;

// More records than this are an error: they would hold up the version for long.
inline constexpr int kMaxWarmupRecords = 1000;

// Replays `<path>/assets.extra/tf_serving_warmup_requests`, TFRecords of PredictionLog, each `iterations`
// times; nothing when there is no such file. A record that cannot be read or replayed is an error that names
// its number. How long it took is counted in the metric model_warmup_latency{model_path, status}.
absl::Status WarmUp(const Servable& servable, const std::string& path, int iterations, const Replay& replay);

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_WARMUP_H_
