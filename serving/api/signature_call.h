// From what a client named to what a servable runs: signature, inputs in order, wanted outputs.
#ifndef SERVING_API_SIGNATURE_CALL_H_
#define SERVING_API_SIGNATURE_CALL_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {

// A tensor that a client sent, under the alias that it gave.
using NamedTensor = std::pair<std::string, tensorflow::Tensor>;

// The signature of that name; "" is "serving_default". InvalidArgument names the signatures there are.
absl::StatusOr<const Signature*> FindSignature(const Servable& servable, absl::string_view name);

// The same for Predict, with TensorFlow Serving's codes: FailedPrecondition when there is none of that name;
// with `check_method_name` Internal when its method_name is not that of predict, classify or regress.
absl::StatusOr<const Signature*> FindPredictSignature(const Servable& servable, absl::string_view name,
                                                      bool check_method_name);

// The inputs in the order of the signature, with default values for those not sent. InvalidArgument when an
// alias is unknown, missing without a default, sent twice, or of another type than the signature's.
absl::StatusOr<std::vector<tensorflow::Tensor>> OrderInputs(const Signature& signature,
                                                            std::vector<NamedTensor> inputs);

// Positions of the outputs that a filter names, in alias order and each once; all of them when it is empty.
// InvalidArgument when an alias is unknown or named twice.
absl::StatusOr<std::vector<int>> SelectOutputs(const Signature& signature,
                                               const std::vector<std::string>& output_filter);

}  // namespace tfipu::serving

#endif  // SERVING_API_SIGNATURE_CALL_H_
