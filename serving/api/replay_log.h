// Requests that were logged, run again.
#ifndef SERVING_API_REPLAY_LOG_H_
#define SERVING_API_REPLAY_LOG_H_

#include "absl/status/status.h"
#include "serving/api/inference.h"
#include "tensorflow_serving/apis/prediction_log.pb.h"

namespace tfipu::serving {

// Runs a recorded request as the APIs would, and drops the answer.
absl::Status ReplayLog(const Servable& servable, const tensorflow::serving::PredictionLog& log,
                       const InferenceOptions& options);

}  // namespace tfipu::serving

#endif  // SERVING_API_REPLAY_LOG_H_
