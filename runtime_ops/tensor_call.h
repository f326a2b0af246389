// A call of an executable with tensors.
#ifndef RUNTIME_OPS_TENSOR_CALL_H_
#define RUNTIME_OPS_TENSOR_CALL_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "cc/engine/engine.h"
#include "cc/executable/executable.pb.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu {

// Makes an output of this type and shape, which stays where it is until the call is answered.
using AllocateOutput =
    absl::FunctionRef<absl::Status(int position, tensorflow::DataType type,
                                   const tensorflow::TensorShape& shape, tensorflow::Tensor** output)>;

// Points the call at `inputs` tensors, which `input` gives by position, and at outputs that it has allocated.
// FailedPrecondition when the inputs are not as many, or not of the types and shapes, as the executable
// expects.
absl::Status PrepareCall(const ExecutableHeader& header, int inputs,
                         absl::FunctionRef<const tensorflow::Tensor&(int position)> input,
                         AllocateOutput allocate, Call* call);

}  // namespace tfipu

#endif  // RUNTIME_OPS_TENSOR_CALL_H_
