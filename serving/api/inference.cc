#include "serving/api/inference.h"

#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "serving/api/example_input.h"
#include "serving/api/model_spec.h"
#include "serving/api/predict_wire.h"
#include "serving/api/signature_call.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using tensorflow::serving::ClassificationResult;
using tensorflow::serving::RegressionResult;

constexpr char kClassifyMethod[] = "tensorflow/serving/classify";
constexpr char kRegressMethod[] = "tensorflow/serving/regress";
constexpr char kClasses[] = "classes";
constexpr char kScores[] = "scores";

absl::Status CheckMethodName(const Signature& signature, const char* expected,
                             const InferenceOptions& options) {
  if (!options.check_method_name || signature.method_name == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("Expected method_name of signature ", signature.name,
                                                 " to be ", expected, ". Was: ", signature.method_name));
}

absl::Status CheckExamplesInput(const Signature& signature) {
  if (signature.inputs.size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat("Expected one input Tensor of signature ", signature.name,
                                                   ", a string Tensor of examples, found ",
                                                   signature.inputs.size(), "."));
  }
  const SignatureTensor& input = signature.inputs[0];
  if (input.alias != "inputs") {
    return absl::InvalidArgumentError(absl::StrCat("Expected the input of signature ", signature.name,
                                                   " to be \"inputs\", it is \"", input.alias, "\"."));
  }
  if (input.dtype != tensorflow::DT_STRING) {
    return absl::InvalidArgumentError(absl::StrCat("Expected the input of signature ", signature.name,
                                                   " to be a string Tensor of examples, it is a ",
                                                   tensorflow::DataTypeString(input.dtype), " Tensor."));
  }
  return absl::OkStatus();
}

// The outputs that Classify reads: "classes" and "scores", in this order, or the one of them that there is.
absl::StatusOr<std::vector<int>> ClassifyOutputs(const Signature& signature) {
  TFIPU_RETURN_IF_ERROR(CheckExamplesInput(signature));
  if (signature.outputs.size() != 1 && signature.outputs.size() != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("Expected one or two output Tensors of classification signature ", signature.name,
                     ", found ", signature.outputs.size(), "."));
  }
  std::vector<int> wanted;
  for (const char* alias : {kClasses, kScores}) {
    for (std::size_t i = 0; i < signature.outputs.size(); ++i) {
      if (signature.outputs[i].alias == alias) wanted.push_back(static_cast<int>(i));
    }
  }
  if (wanted.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("Expected an output \"classes\" or \"scores\" of classification signature ",
                     signature.name, ", found \"", signature.outputs[0].alias, "\"."));
  }
  return wanted;
}

// The output that Regress reads: "outputs".
absl::StatusOr<std::vector<int>> RegressOutputs(const Signature& signature) {
  TFIPU_RETURN_IF_ERROR(CheckExamplesInput(signature));
  if (signature.outputs.size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat("Expected one output Tensor of regression signature ",
                                                   signature.name, ", found ", signature.outputs.size(),
                                                   "."));
  }
  if (signature.outputs[0].alias != "outputs") {
    return absl::InvalidArgumentError(absl::StrCat("Expected the output of regression signature ",
                                                   signature.name, " to be \"outputs\", it is \"",
                                                   signature.outputs[0].alias, "\"."));
  }
  return std::vector<int>{0};
}

absl::Status CheckOutput(const Tensor& output, const char* alias, tensorflow::DataType dtype,
                         std::int64_t examples) {
  if (output.dtype() != dtype) {
    return absl::InvalidArgumentError(absl::StrCat("Expected output \"", alias, "\" to be ",
                                                   tensorflow::DataTypeString(dtype), ", it is ",
                                                   tensorflow::DataTypeString(output.dtype()), "."));
  }
  if (output.dims() < 1 || output.dim_size(0) != examples) {
    return absl::InvalidArgumentError(
        absl::StrCat("Expected output \"", alias, "\" to have one row for each of ", examples,
                     " examples, its shape is ", output.shape().DebugString(), "."));
  }
  return absl::OkStatus();
}

absl::Status RunClassify(const Servable& servable, const Signature& signature, const std::vector<int>& wanted,
                         const Tensor& examples, const CallContext& context, ClassificationResult* result) {
  std::vector<Tensor> outputs;
  TFIPU_RETURN_IF_ERROR(servable.Run(signature, {examples}, wanted, context, &outputs));

  const std::int64_t rows = examples.dim_size(0);
  const bool has_classes = signature.outputs[wanted.front()].alias == kClasses;
  const bool has_scores = signature.outputs[wanted.back()].alias == kScores;
  const Tensor* class_tensor = has_classes ? &outputs.front() : nullptr;
  const Tensor* score_tensor = has_scores ? &outputs.back() : nullptr;
  if (class_tensor != nullptr) {
    TFIPU_RETURN_IF_ERROR(CheckOutput(*class_tensor, kClasses, tensorflow::DT_STRING, rows));
  }
  if (score_tensor != nullptr) {
    TFIPU_RETURN_IF_ERROR(CheckOutput(*score_tensor, kScores, tensorflow::DT_FLOAT, rows));
  }
  const Tensor& any = class_tensor != nullptr ? *class_tensor : *score_tensor;
  if (any.dims() != 2 || (score_tensor != nullptr && score_tensor->shape() != any.shape())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Expected outputs of shape [examples, classes], \"classes\" has ",
        class_tensor != nullptr ? class_tensor->shape().DebugString() : "none", " and \"scores\" ",
        score_tensor != nullptr ? score_tensor->shape().DebugString() : "none", "."));
  }
  const std::int64_t columns = any.dim_size(1);
  for (std::int64_t row = 0; row < rows; ++row) {
    auto* classifications = result->add_classifications();
    for (std::int64_t column = 0; column < columns; ++column) {
      auto* item = classifications->add_classes();
      if (class_tensor != nullptr) {
        const tensorflow::tstring& label = class_tensor->flat<tensorflow::tstring>()(row * columns + column);
        item->set_label(label.data(), label.size());
      }
      if (score_tensor != nullptr) item->set_score(score_tensor->flat<float>()(row * columns + column));
    }
  }
  return absl::OkStatus();
}

absl::Status RunRegress(const Servable& servable, const Signature& signature, const std::vector<int>& wanted,
                        const Tensor& examples, const CallContext& context, RegressionResult* result) {
  std::vector<Tensor> outputs;
  TFIPU_RETURN_IF_ERROR(servable.Run(signature, {examples}, wanted, context, &outputs));
  const Tensor& values = outputs[0];
  const std::int64_t rows = examples.dim_size(0);
  TFIPU_RETURN_IF_ERROR(CheckOutput(values, "outputs", tensorflow::DT_FLOAT, rows));
  if (values.NumElements() != rows || values.dims() > 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Expected output of shape [examples] or [examples, 1] but got ", values.shape().DebugString(), "."));
  }
  auto flat = values.flat<float>();
  for (std::int64_t row = 0; row < rows; ++row) result->add_regressions()->set_value(flat(row));
  return absl::OkStatus();
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
  TFIPU_ASSIGN_OR_RETURN(const Signature* const signature,
                         FindSignature(servable, request.model_spec().signature_name()));
  TFIPU_RETURN_IF_ERROR(CheckMethodName(*signature, kClassifyMethod, options));
  TFIPU_ASSIGN_OR_RETURN(const std::vector<int> wanted, ClassifyOutputs(*signature));
  RepeatedBytes repeated;
  TFIPU_ASSIGN_OR_RETURN(const Tensor examples, ExamplesTensor(request.input(), &repeated));
  TFIPU_RETURN_IF_ERROR(
      RunClassify(servable, *signature, wanted, examples, context, response->mutable_result()));
  FillModelSpec(servable.id(), signature->name, response->mutable_model_spec());
  return absl::OkStatus();
}

absl::Status Regress(const Servable& servable, const tensorflow::serving::RegressionRequest& request,
                     const InferenceOptions& options, const CallContext& context,
                     tensorflow::serving::RegressionResponse* response) {
  TFIPU_ASSIGN_OR_RETURN(const Signature* const signature,
                         FindSignature(servable, request.model_spec().signature_name()));
  TFIPU_RETURN_IF_ERROR(CheckMethodName(*signature, kRegressMethod, options));
  TFIPU_ASSIGN_OR_RETURN(const std::vector<int> wanted, RegressOutputs(*signature));
  RepeatedBytes repeated;
  TFIPU_ASSIGN_OR_RETURN(const Tensor examples, ExamplesTensor(request.input(), &repeated));
  TFIPU_RETURN_IF_ERROR(
      RunRegress(servable, *signature, wanted, examples, context, response->mutable_result()));
  FillModelSpec(servable.id(), signature->name, response->mutable_model_spec());
  return absl::OkStatus();
}

absl::Status MultiInference(const Servable& servable,
                            const tensorflow::serving::MultiInferenceRequest& request,
                            const InferenceOptions& options, const CallContext& context,
                            tensorflow::serving::MultiInferenceResponse* response) {
  if (request.tasks().empty()) return absl::InvalidArgumentError("Inference request has no tasks.");
  const tensorflow::serving::ModelSpec& first = request.tasks(0).model_spec();
  std::set<std::string> seen;
  struct Task {
    const Signature* signature;
    bool classify;
    std::vector<int> wanted;
  };
  std::vector<Task> tasks;
  for (const auto& task : request.tasks()) {
    const tensorflow::serving::ModelSpec& spec = task.model_spec();
    if (spec.name().empty()) return absl::InvalidArgumentError("Found ModelSpec with an empty model name.");
    // The first task chooses the version; another may only agree.
    const bool other_version = spec.has_version() && spec.version().value() != servable.id().version;
    const bool other_label = !spec.version_label().empty() && spec.version_label() != first.version_label();
    if (spec.name() != first.name() || other_version || other_label) {
      return absl::InvalidArgumentError(absl::StrCat(
          "All tasks of a MultiInferenceRequest must name one model and version; the first names ",
          ModelSpecText(first), ", another ", ModelSpecText(spec), "."));
    }
    TFIPU_ASSIGN_OR_RETURN(const Signature* const signature, FindSignature(servable, spec.signature_name()));
    if (!seen.insert(signature->name).second) {
      return absl::InvalidArgumentError(absl::StrCat("Duplicate evaluation of signature: ", signature->name));
    }
    const bool classify = task.method_name() == kClassifyMethod;
    if (!classify && task.method_name() != kRegressMethod) {
      return absl::UnimplementedError(
          absl::StrCat("Unsupported signature method_name: ", task.method_name()));
    }
    TFIPU_RETURN_IF_ERROR(CheckMethodName(*signature, classify ? kClassifyMethod : kRegressMethod, options));
    TFIPU_ASSIGN_OR_RETURN(std::vector<int> wanted,
                           classify ? ClassifyOutputs(*signature) : RegressOutputs(*signature));
    tasks.push_back({signature, classify, std::move(wanted)});
  }
  RepeatedBytes repeated;
  TFIPU_ASSIGN_OR_RETURN(const Tensor examples, ExamplesTensor(request.input(), &repeated));
  for (const Task& task : tasks) {
    auto* result = response->add_results();
    TFIPU_RETURN_IF_ERROR(task.classify ? RunClassify(servable, *task.signature, task.wanted, examples,
                                                      context, result->mutable_classification_result())
                                        : RunRegress(servable, *task.signature, task.wanted, examples,
                                                     context, result->mutable_regression_result()));
    FillModelSpec(servable.id(), task.signature->name, result->mutable_model_spec());
  }
  return absl::OkStatus();
}

}  // namespace tfipu::serving
