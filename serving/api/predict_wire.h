// Predict's request straight from wire bytes to tensors: the path that has to be fast, and that decides what
// memory a stranger's bytes cost.
//
// A request is read in two steps. The first finds out which model and signature it is for and looks at
// nothing else; the second, which knows the signature, checks names, types, shapes and sizes of all inputs,
// and only then makes tensors. Each takes time in proportion to the bytes, some nanoseconds for each field:
// what must not block hands large requests to others first.
#ifndef SERVING_API_PREDICT_WIRE_H_
#define SERVING_API_PREDICT_WIRE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "serving/api/repeated_bytes.h"
#include "serving/api/rpc.h"
#include "serving/core/servable_directory.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {

// What a tensorflow.serving.PredictRequest is for.
struct PredictTarget {
  bool has_model_spec = false;
  ModelSpec model;
  std::string signature_name;
};

// Internal when the bytes are not that message, as far as the model_spec and what lies beside it shows.
absl::Status ParsePredictTarget(const std::vector<Slice>& bytes, PredictTarget* target);

// What a signature needs of the request.
struct PredictInputs {
  std::vector<tensorflow::Tensor> inputs;  // one for each of the signature's; each owns its memory
  std::vector<int> outputs;                // positions of the wanted outputs in the signature, ascending
  RepeatedBytes repeated;                  // that `inputs` hold
};

// InvalidArgument when an input or an output is not the signature's, is missing without a default, or named
// twice, or when a tensor is of another type or impossible; ResourceExhausted when there is no memory for it,
// or requests that repeat values have all that they may have.
absl::Status ReadPredictInputs(const std::vector<Slice>& bytes, const Signature& signature,
                               PredictInputs* inputs);

// `error`, or Internal when the bytes are not a PredictRequest at all: other servers would not have looked
// for a model.
absl::Status UnlessMalformed(const std::vector<Slice>& bytes, absl::Status error);

}  // namespace tfipu::serving

#endif  // SERVING_API_PREDICT_WIRE_H_
