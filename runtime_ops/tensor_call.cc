#include "runtime_ops/tensor_call.h"

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "runtime_ops/feed_checks.h"

namespace tfipu {

absl::Status PrepareCall(const ExecutableHeader& header, int inputs,
                         absl::FunctionRef<const tensorflow::Tensor&(int position)> input,
                         AllocateOutput allocate, Call* call) {
  if (inputs != header.infeeds_size()) {
    return absl::FailedPreconditionError(absl::StrCat("Embedded application call expects ",
                                                      header.infeeds_size(), " inputs, but ", inputs,
                                                      " were provided."));
  }
  const bool any_rows = header.dynamic_batch();
  call->infeeds.reserve(inputs);
  for (int i = 0; i < inputs; ++i) {
    const tensorflow::Tensor& tensor = input(i);
    TFIPU_RETURN_IF_ERROR(CheckInput(tensor, header.infeeds(i), i, any_rows));
    call->infeeds.push_back(BytesOf(tensor));
    if (!any_rows) continue;
    if (i == 0) call->rows = tensor.dim_size(0);
    if (tensor.dim_size(0) != call->rows) {
      return absl::FailedPreconditionError(absl::StrCat(
          "Mismatched input shape at position ", i, " ('", header.infeeds(i).name(), "'). Expected ",
          call->rows, " rows like input 0, but input ", i, " has shape ", tensor.shape().DebugString(), "."));
    }
  }
  if (any_rows && inputs == 0) call->rows = header.outfeeds(0).dims(0);
  call->outfeeds.reserve(header.outfeeds_size());
  for (int i = 0; i < header.outfeeds_size(); ++i) {
    const TensorSpec& spec = header.outfeeds(i);
    tensorflow::TensorShape shape;
    for (int d = 0; d < spec.dims_size(); ++d) {
      TFIPU_RETURN_IF_ERROR(shape.AddDimWithStatus(d == 0 && any_rows ? call->rows : spec.dims(d)));
    }
    tensorflow::Tensor* output;
    TFIPU_RETURN_IF_ERROR(allocate(i, static_cast<tensorflow::DataType>(spec.type()), shape, &output));
    const ConstBuffer bytes = BytesOf(*output);
    call->outfeeds.emplace_back(const_cast<std::byte*>(bytes.data()), bytes.size());
  }
  return absl::OkStatus();
}

}  // namespace tfipu
