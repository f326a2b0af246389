// Predict's replies in JSON.
#ifndef SERVING_REST_PREDICT_REPLY_JSON_H_
#define SERVING_REST_PREDICT_REPLY_JSON_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "serving/rest/predict_json.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {

// Appends the reply: `results` are all outputs of the signature, in its order. A single output goes without
// its name. String outputs whose name ends with "_bytes" are written as {"b64": ...}. InvalidArgument in row
// format when the outputs do not all have the same 0-th dimension, and for types that JSON has no form for.
absl::Status WritePredictJson(const Signature& signature, PredictFormat format,
                              const std::vector<tensorflow::Tensor>& results, std::string* body);

}  // namespace tfipu::serving

#endif  // SERVING_REST_PREDICT_REPLY_JSON_H_
