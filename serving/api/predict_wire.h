// The two messages of Predict straight between wire bytes and tensors: the path that has to be fast. What the
// parser does not know by heart (values before their shape, partial values, rare types) it gives to protobuf
// and TensorFromProto.
#ifndef SERVING_API_PREDICT_WIRE_H_
#define SERVING_API_PREDICT_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "serving/api/rpc.h"
#include "serving/api/signature_call.h"
#include "serving/core/servable_directory.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {

// A tensorflow.serving.PredictRequest.
struct PredictCall {
  bool has_model_spec = false;
  ModelSpec model;
  std::string signature_name;
  std::vector<NamedTensor> inputs;
  std::vector<std::string> output_filter;
};

// Internal when the bytes are not that message, InvalidArgument when a tensor in it is impossible. Every
// tensor owns its memory.
absl::Status ParsePredictRequest(const std::vector<Slice>& bytes, PredictCall* call);

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

#endif  // SERVING_API_PREDICT_WIRE_H_
