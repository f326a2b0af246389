#include "serving/api/inference.h"

#include <string>
#include <utility>
#include <vector>

#include "cc/base/status_macros.h"
#include "serving/api/example_input.h"
#include "serving/api/examples_plan.h"
#include "serving/api/model_spec.h"
#include "serving/api/predict_wire.h"
#include "serving/api/signature_call.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;

// Runs a task and gives what its results mean to `fill`.
template <typename Result>
absl::Status RunTask(const Servable& servable, const ExamplesTask& task, const Tensor& examples,
                     const CallContext& context,
                     absl::Status (*fill)(const ExamplesTask&, std::int64_t, const std::vector<Tensor>&,
                                          Result*),
                     Result* result) {
  std::vector<Tensor> outputs;
  TFIPU_RETURN_IF_ERROR(servable.Run(*task.signature, {examples}, task.outputs, context, &outputs));
  return fill(task, examples.dim_size(0), outputs, result);
}

}  // namespace

absl::Status Predict(const Servable& servable, const tensorflow::serving::PredictRequest& request,
                     const InferenceOptions& options, const CallContext& context,
                     tensorflow::serving::PredictResponse* response) {
  TFIPU_ASSIGN_OR_RETURN(
      const Signature* const signature,
      FindPredictSignature(servable, request.model_spec().signature_name(), options.check_method_name));
  // There is one way from TensorProtos to tensors, with its bounds, and it begins with bytes.
  const std::string bytes = request.SerializeAsString();
  PredictInputs inputs;
  TFIPU_RETURN_IF_ERROR(ReadPredictInputs({{bytes.data(), bytes.size()}}, *signature, &inputs));
  std::vector<Tensor> outputs;
  TFIPU_RETURN_IF_ERROR(servable.Run(*signature, inputs.inputs, inputs.outputs, context, &outputs));
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    auto& proto = (*response->mutable_outputs())[signature->outputs[inputs.outputs[i]].alias];
    if (options.tensor_content) {
      outputs[i].AsProtoTensorContent(&proto);
    } else {
      outputs[i].AsProtoField(&proto);
    }
  }
  FillModelSpec(servable.id(), signature->name, response->mutable_model_spec());
  return absl::OkStatus();
}

absl::Status Classify(const Servable& servable, const tensorflow::serving::ClassificationRequest& request,
                      const InferenceOptions& options, const CallContext& context,
                      tensorflow::serving::ClassificationResponse* response) {
  TFIPU_ASSIGN_OR_RETURN(const ExamplesTask task,
                         PlanClassify(servable, request.model_spec().signature_name(), options));
  RepeatedBytes repeated;
  TFIPU_ASSIGN_OR_RETURN(const Tensor examples, ExamplesTensor(request.input(), &repeated));
  TFIPU_RETURN_IF_ERROR(
      RunTask(servable, task, examples, context, FillClassification, response->mutable_result()));
  FillModelSpec(servable.id(), task.signature->name, response->mutable_model_spec());
  return absl::OkStatus();
}

absl::Status Regress(const Servable& servable, const tensorflow::serving::RegressionRequest& request,
                     const InferenceOptions& options, const CallContext& context,
                     tensorflow::serving::RegressionResponse* response) {
  TFIPU_ASSIGN_OR_RETURN(const ExamplesTask task,
                         PlanRegress(servable, request.model_spec().signature_name(), options));
  RepeatedBytes repeated;
  TFIPU_ASSIGN_OR_RETURN(const Tensor examples, ExamplesTensor(request.input(), &repeated));
  TFIPU_RETURN_IF_ERROR(
      RunTask(servable, task, examples, context, FillRegression, response->mutable_result()));
  FillModelSpec(servable.id(), task.signature->name, response->mutable_model_spec());
  return absl::OkStatus();
}

absl::Status MultiInference(const Servable& servable,
                            const tensorflow::serving::MultiInferenceRequest& request,
                            const InferenceOptions& options, const CallContext& context,
                            tensorflow::serving::MultiInferenceResponse* response) {
  TFIPU_ASSIGN_OR_RETURN(const std::vector<ExamplesTask> tasks,
                         PlanMultiInference(servable, request, options));
  RepeatedBytes repeated;
  TFIPU_ASSIGN_OR_RETURN(const Tensor examples, ExamplesTensor(request.input(), &repeated));
  for (const ExamplesTask& task : tasks) {
    auto* result = response->add_results();
    TFIPU_RETURN_IF_ERROR(task.classify ? RunTask(servable, task, examples, context, FillClassification,
                                                  result->mutable_classification_result())
                                        : RunTask(servable, task, examples, context, FillRegression,
                                                  result->mutable_regression_result()));
    FillModelSpec(servable.id(), task.signature->name, result->mutable_model_spec());
  }
  return absl::OkStatus();
}

}  // namespace tfipu::serving
