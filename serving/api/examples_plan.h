// Classify, Regress and MultiInference in parts: what is to be run, and what the results mean.
#ifndef SERVING_API_EXAMPLES_PLAN_H_
#define SERVING_API_EXAMPLES_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "serving/api/inference.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow_serving/apis/classification.pb.h"
#include "tensorflow_serving/apis/inference.pb.h"
#include "tensorflow_serving/apis/regression.pb.h"

namespace tfipu::serving {

// A signature that is run on examples.
struct ExamplesTask {
  const Signature* signature = nullptr;
  bool classify = false;
  std::vector<int> outputs;  // that are read
};

// The signature must have string input "inputs"; for Classify one or two outputs, among them "classes"
// (string) and "scores" (float), both [examples, classes], or one of them; for Regress output "outputs"
// (float), [examples] or [examples, 1]. InvalidArgument when the request or the signature is at fault.
absl::StatusOr<ExamplesTask> PlanClassify(const Servable& servable, absl::string_view signature_name,
                                          const InferenceOptions& options);
absl::StatusOr<ExamplesTask> PlanRegress(const Servable& servable, absl::string_view signature_name,
                                         const InferenceOptions& options);
// All tasks must name the servable's model, and its version if any, each another signature, with method
// "tensorflow/serving/classify" or ".../regress".
absl::StatusOr<std::vector<ExamplesTask>> PlanMultiInference(
    const Servable& servable, const tensorflow::serving::MultiInferenceRequest& request,
    const InferenceOptions& options);

// What the outputs of a task on so many examples mean.
absl::Status FillClassification(const ExamplesTask& task, std::int64_t examples,
                                const std::vector<tensorflow::Tensor>& outputs,
                                tensorflow::serving::ClassificationResult* result);
absl::Status FillRegression(const ExamplesTask& task, std::int64_t examples,
                            const std::vector<tensorflow::Tensor>& outputs,
                            tensorflow::serving::RegressionResult* result);

}  // namespace tfipu::serving

#endif  // SERVING_API_EXAMPLES_PLAN_H_
