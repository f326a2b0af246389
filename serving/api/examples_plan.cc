#include "serving/api/examples_plan.h"

#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "serving/api/model_spec.h"
#include "serving/api/signature_call.h"

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

}  // namespace

absl::StatusOr<ExamplesTask> PlanClassify(const Servable& servable, absl::string_view signature_name,
                                          const InferenceOptions& options) {
  TFIPU_ASSIGN_OR_RETURN(const Signature* const signature, FindSignature(servable, signature_name));
  TFIPU_RETURN_IF_ERROR(CheckMethodName(*signature, kClassifyMethod, options));
  TFIPU_ASSIGN_OR_RETURN(std::vector<int> outputs, ClassifyOutputs(*signature));
  return ExamplesTask{signature, /*classify=*/true, std::move(outputs)};
}

absl::StatusOr<ExamplesTask> PlanRegress(const Servable& servable, absl::string_view signature_name,
                                         const InferenceOptions& options) {
  TFIPU_ASSIGN_OR_RETURN(const Signature* const signature, FindSignature(servable, signature_name));
  TFIPU_RETURN_IF_ERROR(CheckMethodName(*signature, kRegressMethod, options));
  TFIPU_ASSIGN_OR_RETURN(std::vector<int> outputs, RegressOutputs(*signature));
  return ExamplesTask{signature, /*classify=*/false, std::move(outputs)};
}

absl::StatusOr<std::vector<ExamplesTask>> PlanMultiInference(
    const Servable& servable, const tensorflow::serving::MultiInferenceRequest& request,
    const InferenceOptions& options) {
  if (request.tasks().empty()) return absl::InvalidArgumentError("Inference request has no tasks.");
  const tensorflow::serving::ModelSpec& first = request.tasks(0).model_spec();
  std::set<std::string> seen;
  std::vector<ExamplesTask> tasks;
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
  return tasks;
}

absl::Status FillClassification(const ExamplesTask& task, std::int64_t examples,
                                const std::vector<Tensor>& outputs, ClassificationResult* result) {
  const bool has_classes = task.signature->outputs[task.outputs.front()].alias == kClasses;
  const bool has_scores = task.signature->outputs[task.outputs.back()].alias == kScores;
  const Tensor* class_tensor = has_classes ? &outputs.front() : nullptr;
  const Tensor* score_tensor = has_scores ? &outputs.back() : nullptr;
  if (class_tensor != nullptr) {
    TFIPU_RETURN_IF_ERROR(CheckOutput(*class_tensor, kClasses, tensorflow::DT_STRING, examples));
  }
  if (score_tensor != nullptr) {
    TFIPU_RETURN_IF_ERROR(CheckOutput(*score_tensor, kScores, tensorflow::DT_FLOAT, examples));
  }
  const Tensor& any = class_tensor != nullptr ? *class_tensor : *score_tensor;
  if (any.dims() != 2 || (score_tensor != nullptr && score_tensor->shape() != any.shape())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Expected outputs of shape [examples, classes], \"classes\" has ",
        class_tensor != nullptr ? class_tensor->shape().DebugString() : "none", " and \"scores\" ",
        score_tensor != nullptr ? score_tensor->shape().DebugString() : "none", "."));
  }
  const std::int64_t columns = any.dim_size(1);
  for (std::int64_t row = 0; row < examples; ++row) {
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

absl::Status FillRegression(const ExamplesTask& task, std::int64_t examples,
                            const std::vector<Tensor>& outputs, RegressionResult* result) {
  const Tensor& values = outputs[0];
  TFIPU_RETURN_IF_ERROR(CheckOutput(values, "outputs", tensorflow::DT_FLOAT, examples));
  if (values.NumElements() != examples || values.dims() > 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Expected output of shape [examples] or [examples, 1] but got ", values.shape().DebugString(), "."));
  }
  auto flat = values.flat<float>();
  for (std::int64_t row = 0; row < examples; ++row) result->add_regressions()->set_value(flat(row));
  return absl::OkStatus();
}

}  // namespace tfipu::serving
