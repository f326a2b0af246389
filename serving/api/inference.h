// Predict, Classify, Regress and MultiInference over their messages, in the calling thread, on a servable
// that it has found: for warm-up, whose requests lie in files. What transports bring goes through
// InferenceCall.
#ifndef SERVING_API_INFERENCE_H_
#define SERVING_API_INFERENCE_H_

#include "absl/status/status.h"
#include "serving/servables/servable.h"
#include "tensorflow_serving/apis/classification.pb.h"
#include "tensorflow_serving/apis/inference.pb.h"
#include "tensorflow_serving/apis/predict.pb.h"
#include "tensorflow_serving/apis/regression.pb.h"

namespace tfipu::serving {

struct InferenceOptions {
  // A signature's method_name must be that of the call (--enable_signature_method_name_check).
  bool check_method_name = false;
  // Predict's replies carry tensor_content instead of *_val fields
  // (--enable_serialization_as_tensor_content).
  bool tensor_content = false;
};

// InvalidArgument when the request or the signature is at fault (examples_plan.h says what is expected of
// it); other errors are the servable's. The reply's model_spec says what answered.
absl::Status Predict(const Servable& servable, const tensorflow::serving::PredictRequest& request,
                     const InferenceOptions& options, const CallContext& context,
                     tensorflow::serving::PredictResponse* response);
absl::Status Classify(const Servable& servable, const tensorflow::serving::ClassificationRequest& request,
                      const InferenceOptions& options, const CallContext& context,
                      tensorflow::serving::ClassificationResponse* response);
absl::Status Regress(const Servable& servable, const tensorflow::serving::RegressionRequest& request,
                     const InferenceOptions& options, const CallContext& context,
                     tensorflow::serving::RegressionResponse* response);
absl::Status MultiInference(const Servable& servable,
                            const tensorflow::serving::MultiInferenceRequest& request,
                            const InferenceOptions& options, const CallContext& context,
                            tensorflow::serving::MultiInferenceResponse* response);

}  // namespace tfipu::serving

#endif  // SERVING_API_INFERENCE_H_
