// Predict, Classify, Regress and MultiInference over their messages, on a servable that the caller has found.
// These serve whatever is not on the fast path of a transport: REST's classify and regress, warm-up, request
// logs.
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

// The signature that a request's model_spec names must have string input "inputs"; for Classify one or two
// outputs, among them "classes" (string) and "scores" (float), both [examples, classes], or one of them; for
// Regress output "outputs" (float), [examples] or [examples, 1]. InvalidArgument when the request or the
// signature is at fault; other errors are the servable's. The reply's model_spec says what answered.
absl::Status Predict(const Servable& servable, const tensorflow::serving::PredictRequest& request,
                     const InferenceOptions& options, const CallContext& context,
                     tensorflow::serving::PredictResponse* response);
absl::Status Classify(const Servable& servable, const tensorflow::serving::ClassificationRequest& request,
                      const InferenceOptions& options, const CallContext& context,
                      tensorflow::serving::ClassificationResponse* response);
absl::Status Regress(const Servable& servable, const tensorflow::serving::RegressionRequest& request,
                     const InferenceOptions& options, const CallContext& context,
                     tensorflow::serving::RegressionResponse* response);
// All tasks must name the servable's model, and its version if any, each another signature, with method
// "tensorflow/serving/classify" or ".../regress".
absl::Status MultiInference(const Servable& servable,
                            const tensorflow::serving::MultiInferenceRequest& request,
                            const InferenceOptions& options, const CallContext& context,
                            tensorflow::serving::MultiInferenceResponse* response);

}  // namespace tfipu::serving

#endif  // SERVING_API_INFERENCE_H_
