// Compares tensors with what an executable expects, and finds engines for kernels.
#ifndef RUNTIME_OPS_FEED_CHECKS_H_
#define RUNTIME_OPS_FEED_CHECKS_H_

#include <string>

#include "absl/status/status.h"
#include "cc/engine/engine_manager.h"
#include "cc/executable/executable.pb.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfipu {

// The key of an engine for a kernel: the served model's name and version, when there are any, and the
// engine's name.
EngineKey KeyFor(const tensorflow::OpKernelContext& context, const std::string& engine_name);

// FailedPrecondition "Mismatched input ..." when the tensor at `position` is not what `spec` says.
// `any_rows`: the leading dimension may have any size.
absl::Status CheckInput(const tensorflow::Tensor& tensor, const TensorSpec& spec, int position,
                        bool any_rows);

// The bytes of a tensor of a type that executables know.
ConstBuffer BytesOf(const tensorflow::Tensor& tensor);

}  // namespace tfipu

#endif  // RUNTIME_OPS_FEED_CHECKS_H_
