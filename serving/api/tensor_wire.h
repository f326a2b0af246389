// TensorProtos that a stranger wrote, straight from wire bytes to tensors.
#ifndef SERVING_API_TENSOR_WIRE_H_
#define SERVING_API_TENSOR_WIRE_H_

#include <cstddef>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "google/protobuf/io/coded_stream.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.pb.h"

namespace tfipu::serving {

// Whether tensors of a type can come from or go to a client: no references, resources or variants.
bool IsWireType(tensorflow::DataType dtype);

// What the bytes of a TensorProto say of its tensor, known before memory is asked for: some 30 bytes can ask
// for a terabyte, as TensorFlow repeats the last of too few values. Used in the order Scan(), Check(),
// Read(); each takes time in proportion to the bytes.
class WireTensor {
 public:
  // Reads up to the stream's limit, the end of the TensorProto, and skips its values. Only values of type
  // `wanted` are looked at, which is what the tensor should be. False when the bytes are not a TensorProto.
  bool Scan(google::protobuf::io::CodedInputStream* input, tensorflow::DataType wanted);

  // InvalidArgument for a type that cannot be sent or is not the wanted one, for an impossible shape, for
  // tensor_content that does not fit the shape, and when more than `max_repeated` bytes would come from
  // repeating the last value.
  absl::Status Check(std::size_t max_repeated);

  // Bytes that the tensor takes, what its strings hold included; and how many of them do not come out of the
  // message but from repeating its last value. After Check().
  std::size_t held_bytes() const { return held_bytes_; }
  std::size_t repeated_bytes() const { return repeated_bytes_; }

  // Fills a new tensor from a stream that is where Scan()'s began. InvalidArgument when the tensor_content of
  // strings is not that, Internal when packed values are malformed, ResourceExhausted when there is no
  // memory.
  absl::Status Read(google::protobuf::io::CodedInputStream* input, tensorflow::Tensor* tensor) const;

 private:
  bool ScanShape(google::protobuf::io::CodedInputStream* input);
  bool ScanValues(google::protobuf::io::CodedInputStream* input, std::uint32_t tag);
  bool ReadContent(google::protobuf::io::CodedInputStream* input, tensorflow::Tensor* tensor) const;

  tensorflow::DataType wanted_ = tensorflow::DT_INVALID;
  tensorflow::DataType dtype_ = tensorflow::DT_INVALID;
  absl::InlinedVector<std::int64_t, 6> dims_;
  tensorflow::TensorShape shape_;
  std::int64_t content_bytes_ = 0;
  // Of the field of values that belongs to the wanted type.
  std::int64_t given_ = 0;              // elements, at most: varints take a byte or more each
  std::int64_t string_bytes_ = 0;       // that strings take beside their objects
  std::int64_t last_string_bytes_ = 0;  // of them the last one
  std::size_t held_bytes_ = 0;
  std::size_t repeated_bytes_ = 0;
};

}  // namespace tfipu::serving

#endif  // SERVING_API_TENSOR_WIRE_H_
