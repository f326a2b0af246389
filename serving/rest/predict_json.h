// Predict's requests in JSON, in row and column format, to input tensors.
#ifndef SERVING_REST_PREDICT_JSON_H_
#define SERVING_REST_PREDICT_JSON_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {

// The signature of a name; "" when the client gave none.
using SignatureLookup = std::function<absl::StatusOr<const Signature*>(absl::string_view name)>;

enum class PredictFormat {
  kRows,     // {"instances": [...]}, answered by {"predictions": [...]}
  kColumns,  // {"inputs": ...}, answered by {"outputs": ...}
};

struct PredictJsonRequest {
  const Signature* signature = nullptr;
  PredictFormat format = PredictFormat::kRows;
  // One for each of the signature's inputs, in its order, of its type. Shapes are what the client sent.
  std::vector<tensorflow::Tensor> inputs;
};

// Reads a request. Numbers are parsed straight into the tensors' memory. InvalidArgument for what is not
// JSON, for arrays that are not rectangular, for values that the input's type cannot hold (an integer out of
// range, a fraction for an integer type, a number in quotes, ...), for inputs that are missing without a
// default, and in row format for names that the signature lacks; Unimplemented, in row format
// InvalidArgument, for inputs of types that JSON has no form for. Members of the request other than
// signature_name, instances and inputs are ignored, as are unknown names in column format.
absl::Status ParsePredictJson(absl::string_view body, const SignatureLookup& lookup, int max_depth,
                              PredictJsonRequest* request);

// What can be said of a request without a model: that it is a JSON object, and its signature_name a string.
absl::Status CheckPredictJson(absl::string_view body, int max_depth);

}  // namespace tfipu::serving

#endif  // SERVING_REST_PREDICT_JSON_H_
