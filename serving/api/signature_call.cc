#include "serving/api/signature_call.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {
namespace {

constexpr absl::string_view kDefaultSignature = "serving_default";

std::string Aliases(const std::vector<SignatureTensor>& tensors) {
  return absl::StrJoin(tensors, ",", [](std::string* out, const SignatureTensor& tensor) {
    absl::StrAppend(out, tensor.alias);
  });
}

// Position of an alias, or -1. Signatures have few tensors: a scan beats a search.
int Find(const std::vector<SignatureTensor>& tensors, absl::string_view alias) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].alias == alias) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace

absl::StatusOr<const Signature*> FindSignature(const Servable& servable, absl::string_view name) {
  if (name.empty()) name = kDefaultSignature;
  auto found = servable.signatures().find(name);
  if (found == servable.signatures().end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Serving signature name: \"", name, "\" not found in signature def; ", servable.id().DebugString(),
        " has {",
        absl::StrJoin(servable.signatures(), ",",
                      [](std::string* out, const auto& signature) { absl::StrAppend(out, signature.first); }),
        "}"));
  }
  return &found->second;
}

absl::StatusOr<const Signature*> FindPredictSignature(const Servable& servable, absl::string_view name,
                                                      bool check_method_name) {
  absl::StatusOr<const Signature*> signature = FindSignature(servable, name);
  if (!signature.ok()) return absl::FailedPreconditionError(signature.status().message());
  if (!check_method_name) return signature;
  const std::string& method = (*signature)->method_name;
  if (method != "tensorflow/serving/predict" && method != "tensorflow/serving/classify" &&
      method != "tensorflow/serving/regress") {
    return absl::InternalError(
        absl::StrCat("Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
                     "tensorflow/serving/classify, "
                     "tensorflow/serving/regress}. Was: ",
                     method));
  }
  return signature;
}

absl::StatusOr<std::vector<tensorflow::Tensor>> OrderInputs(const Signature& signature,
                                                            std::vector<NamedTensor> inputs) {
  std::vector<tensorflow::Tensor> ordered;
  ordered.reserve(signature.inputs.size());
  std::size_t used = 0;
  for (const SignatureTensor& wanted : signature.inputs) {
    auto sent = std::find_if(inputs.begin(), inputs.end(),
                             [&wanted](const NamedTensor& input) { return input.first == wanted.alias; });
    if (sent == inputs.end()) {
      if (wanted.default_value) {
        ordered.push_back(*wanted.default_value);
        continue;
      }
      return absl::InvalidArgumentError(absl::StrCat(
          "Signature input alias: ", wanted.alias, "(feed name: ", wanted.tensor_name,
          ") not found in request and no default value provided. Inputs expected to be in the request {",
          absl::StrJoin(
              inputs, ",",
              [](std::string* out, const NamedTensor& input) { absl::StrAppend(out, input.first); }),
          "}, the signature's inputs: {", Aliases(signature.inputs), "}"));
    }
    if (sent->second.dtype() != wanted.dtype) {
      return absl::InvalidArgumentError(absl::StrCat(
          "Input ", wanted.alias, " is expected to be ", tensorflow::DataTypeString(wanted.dtype), " but ",
          tensorflow::DataTypeString(sent->second.dtype()), " is provided"));
    }
    ordered.push_back(std::move(sent->second));
    ++used;
  }
  if (used != inputs.size()) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (Find(signature.inputs, inputs[i].first) < 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("input tensor alias not found in signature: ", inputs[i].first,
                         ". Inputs expected to be in the set {", Aliases(signature.inputs), "}."));
      }
      for (std::size_t j = 0; j < i; ++j) {
        if (inputs[i].first == inputs[j].first) {
          return absl::InvalidArgumentError(
              absl::StrCat("input tensor alias given twice: ", inputs[i].first));
        }
      }
    }
  }
  return ordered;
}

absl::StatusOr<std::vector<int>> SelectOutputs(const Signature& signature,
                                               const std::vector<std::string>& output_filter) {
  std::vector<int> outputs;
  if (output_filter.empty()) {
    outputs.resize(signature.outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i] = static_cast<int>(i);
    return outputs;
  }
  for (const std::string& alias : output_filter) {
    const int position = Find(signature.outputs, alias);
    if (position < 0) {
      return absl::InvalidArgumentError(absl::StrCat("output tensor alias not found in signature: ", alias,
                                                     " Outputs expected to be in the set {",
                                                     Aliases(signature.outputs), "}."));
    }
    outputs.push_back(position);
  }
  std::sort(outputs.begin(), outputs.end());
  auto twice = std::adjacent_find(outputs.begin(), outputs.end());
  if (twice != outputs.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("duplicate output tensor alias: ", signature.outputs[*twice].alias));
  }
  return outputs;
}

}  // namespace tfipu::serving
