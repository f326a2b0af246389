// Compares tensors with what an executable expects.
#ifndef RUNTIME_OPS_FEED_CHECKS_H_
#define RUNTIME_OPS_FEED_CHECKS_H_

#include "absl/status/status.h"
#include "cc/base/buffer.h"
#include "cc/executable/executable.pb.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu {

// FailedPrecondition "Mismatched input ..." when the tensor at `position` is not what `spec` says.
// `any_rows`: the leading dimension may have any size.
absl::Status CheckInput(const tensorflow::Tensor& tensor, const TensorSpec& spec, int position,
                        bool any_rows);

// The bytes of a tensor of a type that executables know.
ConstBuffer BytesOf(const tensorflow::Tensor& tensor);

}  // namespace tfipu

#endif  // RUNTIME_OPS_FEED_CHECKS_H_
