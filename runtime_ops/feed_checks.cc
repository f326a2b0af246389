#include "runtime_ops/feed_checks.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/executable/executable.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu {
namespace {

bool SameShape(const tensorflow::TensorShape& shape, const TensorSpec& spec, bool any_rows) {
  if (shape.dims() != spec.dims_size()) return false;
  for (int i = any_rows ? 1 : 0; i < shape.dims(); ++i) {
    if (shape.dim_size(i) != spec.dims(i)) return false;
  }
  return true;
}

std::string ShapeOf(const TensorSpec& spec, bool any_rows) {
  if (!any_rows || spec.dims().empty()) return absl::StrCat("[", absl::StrJoin(spec.dims(), ","), "]");
  return absl::StrCat("[?", spec.dims_size() > 1 ? "," : "",
                      absl::StrJoin(spec.dims().begin() + 1, spec.dims().end(), ","), "]");
}

}  // namespace

absl::Status CheckInput(const tensorflow::Tensor& tensor, const TensorSpec& spec, int position,
                        bool any_rows) {
  if (static_cast<int>(tensor.dtype()) != static_cast<int>(spec.type())) {
    return absl::FailedPreconditionError(
        absl::StrCat("Mismatched input dtype at position ", position, " ('", spec.name(), "'). Expected ",
                     ElementTypeName(spec.type()), ", but input ", position, " has dtype ",
                     tensorflow::DataTypeString(tensor.dtype()), "."));
  }
  if (!SameShape(tensor.shape(), spec, any_rows)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "Mismatched input shape at position ", position, " ('", spec.name(), "'). Expected ",
        ShapeOf(spec, any_rows), ", but input ", position, " has shape ", tensor.shape().DebugString(), "."));
  }
  return absl::OkStatus();
}

ConstBuffer BytesOf(const tensorflow::Tensor& tensor) {
  const absl::string_view data = tensor.tensor_data();
  return {reinterpret_cast<const std::byte*>(data.data()), data.size()};
}

}  // namespace tfipu
