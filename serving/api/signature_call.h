// From the name that a client gave to the signature that a servable runs.
#ifndef SERVING_API_SIGNATURE_CALL_H_
#define SERVING_API_SIGNATURE_CALL_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {

// The signature of that name; "" is "serving_default". InvalidArgument names the signatures there are.
absl::StatusOr<const Signature*> FindSignature(const Servable& servable, absl::string_view name);

// The same for Predict, with TensorFlow Serving's codes: FailedPrecondition when there is none of that name;
// with `check_method_name` Internal when its method_name is not that of predict, classify or regress; what
// Signature::runnable says when it is not for calls.
absl::StatusOr<const Signature*> FindPredictSignature(const Servable& servable, absl::string_view name,
                                                      bool check_method_name);

}  // namespace tfipu::serving

#endif  // SERVING_API_SIGNATURE_CALL_H_
