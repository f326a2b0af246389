#include "serving/servables/signature.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/protobuf/struct.pb.h"

namespace tfipu::serving {
namespace {

using tensorflow::DataTypeString;
using tensorflow::TensorInfo;

std::string TypeName(tensorflow::DataType type) {
  return type == tensorflow::DT_FLOAT    ? "float32"
         : type == tensorflow::DT_DOUBLE ? "float64"
                                         : DataTypeString(type);
}

absl::StatusOr<SignatureTensor> TensorFrom(const std::string& signature, const std::string& alias,
                                           const TensorInfo& info) {
  SignatureTensor tensor;
  tensor.alias = alias;
  if (info.encoding_case() == TensorInfo::kName) {
    tensor.tensor_name = info.name();
    if (!tensor.tensor_name.empty() && !absl::StrContains(tensor.tensor_name, ':'))
      tensor.tensor_name += ":0";
  }
  tensor.dtype = info.dtype();
  // The constructor would end the process.
  const absl::Status status =
      tensorflow::PartialTensorShape::BuildPartialTensorShape(info.tensor_shape(), &tensor.shape);
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("The shape of \"", alias, "\" of signature \"", signature,
                                                   "\" is impossible: ", status.message()));
  }
  return tensor;
}

void SortByAlias(std::vector<SignatureTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(),
            [](const SignatureTensor& a, const SignatureTensor& b) { return a.alias < b.alias; });
}

// What an input or output is that is not a dense tensor; "" when it is one.
absl::string_view WhatInstead(const TensorInfo& info) {
  switch (info.encoding_case()) {
    case TensorInfo::kName:
      return info.name().empty() ? "a tensor without a name" : "";
    case TensorInfo::kCooSparse:
      return "a sparse tensor";
    case TensorInfo::kCompositeTensor:
      switch (info.composite_tensor().type_spec().type_spec_class()) {
        case tensorflow::TypeSpecProto::RAGGED_TENSOR_SPEC:
          return "a ragged tensor";
        case tensorflow::TypeSpecProto::SPARSE_TENSOR_SPEC:
          return "a sparse tensor";
        default:
          return "a composite tensor";
      }
    default:
      return "a tensor without a name";
  }
}

// Whether a session can run it: it has outputs, and all its inputs and outputs are dense tensors. What its
// method_name says does not matter.
absl::Status Runnable(const std::string& name, const tensorflow::SignatureDef& def) {
  if (def.outputs().empty()) {
    return absl::InvalidArgumentError(absl::StrCat("Signature \"", name, "\" has no outputs."));
  }
  const auto dense = [&name](const char* kind, const auto& tensors) {
    for (const auto& [alias, info] : tensors) {
      const absl::string_view instead = WhatInstead(info);
      if (instead.empty()) continue;
      return absl::InvalidArgumentError(absl::StrCat("Signature \"", name, "\": ", kind, " \"", alias,
                                                     "\" is ", instead,
                                                     "; only dense tensors can be served."));
    }
    return absl::OkStatus();
  };
  TFIPU_RETURN_IF_ERROR(dense("input", def.inputs()));
  TFIPU_RETURN_IF_ERROR(dense("output", def.outputs()));
  for (const auto& [alias, info] : def.outputs()) {
    if (info.dtype() != tensorflow::DT_INVALID) continue;
    // Such as "__saved_model_init_op".
    return absl::OutOfRangeError(
        absl::StrCat("Signature \"", name, "\": output \"", alias,
                     "\" is an operation without a value; it is not meant to be called."));
  }
  return absl::OkStatus();
}

// Some bytes of a default value can ask for a terabyte, as TensorFlow repeats the last of too few values.
bool IsSizeReasonable(const tensorflow::TensorProto& proto) {
  tensorflow::TensorShape shape;
  if (!tensorflow::TensorShape::BuildTensorShape(proto.tensor_shape(), &shape).ok()) return false;
  const double most = double{1 << 28} + 16.0 * static_cast<double>(proto.ByteSizeLong());
  double element = std::max(1, tensorflow::DataTypeSize(proto.dtype()));
  if (proto.dtype() == tensorflow::DT_STRING) {
    element = sizeof(tensorflow::tstring) +
              (proto.string_val().empty() ? 0 : static_cast<double>(proto.string_val().rbegin()->size()));
  }
  return static_cast<double>(shape.num_elements()) * element <= most;
}

}  // namespace

absl::StatusOr<Signatures> SignaturesOf(const tensorflow::MetaGraphDef& meta_graph) {
  Signatures signatures;
  for (const auto& [name, def] : meta_graph.signature_def()) {
    Signature signature;
    signature.name = name;
    signature.method_name = def.method_name();
    signature.def = def;
    for (const auto& [alias, info] : def.inputs()) {
      TFIPU_ASSIGN_OR_RETURN(SignatureTensor tensor, TensorFrom(name, alias, info));
      const auto value = def.defaults().find(alias);
      if (value != def.defaults().end()) {
        tensor.default_value.emplace();
        if (!IsSizeReasonable(value->second) || !tensor.default_value->FromProto(value->second)) {
          return absl::InvalidArgumentError(
              absl::StrCat("The default value of input \"", alias, "\" of signature \"", name,
                           "\" is not a tensor, or gives one value for more than 256 MiB of them."));
        }
      }
      signature.inputs.push_back(std::move(tensor));
    }
    for (const auto& [alias, info] : def.outputs()) {
      TFIPU_ASSIGN_OR_RETURN(SignatureTensor tensor, TensorFrom(name, alias, info));
      signature.outputs.push_back(std::move(tensor));
    }
    SortByAlias(signature.inputs);
    SortByAlias(signature.outputs);
    signature.runnable = Runnable(name, def);
    signatures.emplace(name, std::move(signature));
  }
  int index = 0;
  for (auto& [_, signature] : signatures) signature.index = index++;
  return signatures;
}

absl::Status CheckInputs(const Signature& signature, const std::vector<tensorflow::Tensor>& inputs,
                         bool shapes) {
  if (inputs.size() != signature.inputs.size()) {
    return absl::InvalidArgumentError(absl::StrCat("Signature \"", signature.name, "\": expected ",
                                                   signature.inputs.size(), " inputs, found ", inputs.size(),
                                                   "."));
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const SignatureTensor& expected = signature.inputs[i];
    const tensorflow::Tensor& found = inputs[i];
    if (found.dtype() == expected.dtype && (!shapes || expected.shape.IsCompatibleWith(found.shape())))
      continue;
    return absl::InvalidArgumentError(
        absl::StrCat("Input \"", expected.alias, "\" of signature \"", signature.name, "\": expected ",
                     TypeName(expected.dtype), " ", expected.shape.DebugString(), ", found ",
                     TypeName(found.dtype()), " ", found.shape().DebugString(), "."));
  }
  return absl::OkStatus();
}

}  // namespace tfipu::serving
