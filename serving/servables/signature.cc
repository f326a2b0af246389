#include "serving/servables/signature.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {
namespace {

using tensorflow::DataTypeString;
using tensorflow::TensorInfo;

std::string TypeName(tensorflow::DataType type) {
  return type == tensorflow::DT_FLOAT    ? "float32"
         : type == tensorflow::DT_DOUBLE ? "float64"
                                         : DataTypeString(type);
}

SignatureTensor TensorFrom(const std::string& alias, const TensorInfo& info) {
  SignatureTensor tensor;
  tensor.alias = alias;
  if (info.encoding_case() == TensorInfo::kName) {
    tensor.tensor_name = info.name();
    if (!tensor.tensor_name.empty() && !absl::StrContains(tensor.tensor_name, ':'))
      tensor.tensor_name += ":0";
  }
  tensor.dtype = info.dtype();
  tensor.shape = tensorflow::PartialTensorShape(info.tensor_shape());
  return tensor;
}

int Find(const std::vector<SignatureTensor>& tensors, absl::string_view alias) {
  const auto found = std::lower_bound(
      tensors.begin(), tensors.end(), alias,
      [](const SignatureTensor& tensor, absl::string_view wanted) { return tensor.alias < wanted; });
  return found == tensors.end() || found->alias != alias ? -1 : static_cast<int>(found - tensors.begin());
}

void SortByAlias(std::vector<SignatureTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const SignatureTensor& a, const SignatureTensor& b) { return a.alias < b.alias; });
}

}  // namespace

int Signature::FindInput(absl::string_view alias) const { return Find(inputs, alias); }
int Signature::FindOutput(absl::string_view alias) const { return Find(outputs, alias); }

absl::StatusOr<Signatures> SignaturesOf(const tensorflow::MetaGraphDef& meta_graph) {
  Signatures signatures;
  for (const auto& [name, def] : meta_graph.signature_def()) {
    Signature signature;
    signature.name = name;
    signature.method_name = def.method_name();
    signature.def = def;
    for (const auto& [alias, info] : def.inputs()) {
      SignatureTensor tensor = TensorFrom(alias, info);
      const auto value = def.defaults().find(alias);
      if (value != def.defaults().end()) {
        tensor.default_value.emplace();
        if (!tensor.default_value->FromProto(value->second)) {
          return absl::InvalidArgumentError(absl::StrCat("The default value of input \"", alias,
                                                         "\" of signature \"", name, "\" is no tensor."));
        }
      }
      signature.inputs.push_back(std::move(tensor));
    }
    for (const auto& [alias, info] : def.outputs()) signature.outputs.push_back(TensorFrom(alias, info));
    SortByAlias(signature.inputs);
    SortByAlias(signature.outputs);
    signatures.emplace(name, std::move(signature));
  }
  int index = 0;
  for (auto& [_, signature] : signatures) signature.index = index++;
  return signatures;
}

absl::Status CheckRunnable(const Signature& signature) {
  // The codes are those that a TensorFlow session would give.
  const auto check = [&](const char* kind, const std::vector<SignatureTensor>& tensors) {
    for (const SignatureTensor& tensor : tensors) {
      if (!tensor.tensor_name.empty()) continue;
      return absl::UnimplementedError(absl::StrCat("Signature \"", signature.name, "\": ", kind, " \"",
                                                   tensor.alias,
                                                   "\" is no dense tensor; only those can be served."));
    }
    return absl::OkStatus();
  };
  if (signature.outputs.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("Signature \"", signature.name, "\" has no outputs."));
  }
  for (const SignatureTensor& output : signature.outputs) {
    if (output.dtype != tensorflow::DT_INVALID) continue;
    // Such as "__saved_model_init_op".
    return absl::InvalidArgumentError(absl::StrCat("Signature \"", signature.name, "\": output \"",
                                                   output.alias,
                                                   "\" is an operation without a value; it is "
                                                   "not meant to be called."));
  }
  if (absl::Status status = check("input", signature.inputs); !status.ok()) return status;
  return check("output", signature.outputs);
}

absl::Status CheckInputs(const Signature& signature, const std::vector<tensorflow::Tensor>& inputs) {
  if (inputs.size() != signature.inputs.size()) {
    return absl::InvalidArgumentError(absl::StrCat("Signature \"", signature.name, "\": expected ",
                                                   signature.inputs.size(), " inputs, found ", inputs.size(),
                                                   "."));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const SignatureTensor& expected = signature.inputs[i];
    const tensorflow::Tensor& found = inputs[i];
    if (found.dtype() == expected.dtype && expected.shape.IsCompatibleWith(found.shape())) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("Input \"", expected.alias, "\" of signature \"", signature.name, "\": expected ",
                     TypeName(expected.dtype), " ", expected.shape.DebugString(), ", found ",
                     TypeName(found.dtype()), " ", found.shape().DebugString(), "."));
  }
  return absl::OkStatus();
}

}  // namespace tfipu::serving
