// Predict's reply straight from tensors to wire bytes.
#ifndef SERVING_API_PREDICT_REPLY_H_
#define SERVING_API_PREDICT_REPLY_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {

// A tensorflow.serving.PredictResponse to be: first Measure(), then Write() into that many bytes. Refers to
// its arguments.
class PredictReply {
 public:
  // `outputs` are those at positions `wanted` of signature.outputs. `tensor_content` instead of *_val fields.
  PredictReply(const ServableId& id, const Signature& signature, absl::Span<const int> wanted,
               const std::vector<tensorflow::Tensor>& outputs, bool tensor_content);

  // InvalidArgument when the message would be larger than the 2 GiB that protobuf allows.
  absl::Status Measure(std::size_t* size);
  void Write(void* bytes) const;

 private:
  const ServableId& id_;
  const Signature& signature_;
  absl::Span<const int> wanted_;
  const std::vector<tensorflow::Tensor>& outputs_;
  const bool tensor_content_;
  struct Sizes {
    std::size_t entry, tensor, shape, data;
    std::string encoded;  // the whole TensorProto where protobuf wrote it
  };
  std::vector<Sizes> sizes_;
  std::size_t spec_size_ = 0;
};

}  // namespace tfipu::serving

#endif  // SERVING_API_PREDICT_REPLY_H_
