#include "serving/api/replay_log.h"

namespace tfipu::serving {

absl::Status ReplayLog(const Servable& servable, const tensorflow::serving::PredictionLog& log,
                       const InferenceOptions& options) {
  const CallContext context;
  if (log.has_predict_log()) {
    tensorflow::serving::PredictResponse response;
    return Predict(servable, log.predict_log().request(), options, context, &response);
  }
  if (log.has_classify_log()) {
    tensorflow::serving::ClassificationResponse response;
    return Classify(servable, log.classify_log().request(), options, context, &response);
  }
  if (log.has_regress_log()) {
    tensorflow::serving::RegressionResponse response;
    return Regress(servable, log.regress_log().request(), options, context, &response);
  }
  if (log.has_multi_inference_log()) {
    tensorflow::serving::MultiInferenceResponse response;
    return MultiInference(servable, log.multi_inference_log().request(), options, context, &response);
  }
  return absl::UnimplementedError(
      "it records a call that is none of Predict, Classify, Regress and MultiInference");
}

}  // namespace tfipu::serving
