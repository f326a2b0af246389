// TensorProto to Tensor and back, for protos that a stranger wrote.
#ifndef SERVING_API_TENSOR_PROTO_H_
#define SERVING_API_TENSOR_PROTO_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/tensor_shape.pb.h"

namespace tfipu::serving {

// Whether tensors of a type can come from or go to a client: no references, resources or variants.
bool IsWireType(tensorflow::DataType dtype);

// InvalidArgument for an unknown rank, a negative dimension, more than 254 dimensions or more than 2^63-1
// elements.
absl::Status ShapeFromProto(const tensorflow::TensorShapeProto& proto, tensorflow::TensorShape* shape);

// Makes every byte of a bool tensor 0 or 1: raw bytes from a client may be anything, which no kernel expects.
void NormalizeBools(tensorflow::Tensor* tensor);

// InvalidArgument when the values do not fit type and shape. As in TensorFlow, fewer values than elements
// repeat the last one (zero or "" when there is none); a tensor made that way that needs more than
// `max_expanded_bytes` is refused, for a few bytes on the wire must not cost any amount of memory.
absl::StatusOr<tensorflow::Tensor> TensorFromProto(const tensorflow::TensorProto& proto,
                                                   std::size_t max_expanded_bytes = std::size_t{1} << 28);

}  // namespace tfipu::serving

#endif  // SERVING_API_TENSOR_PROTO_H_
