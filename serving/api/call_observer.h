// Who is told of every inference call: metrics and request logs.
#ifndef SERVING_API_CALL_OBSERVER_H_
#define SERVING_API_CALL_OBSERVER_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "serving/core/servable_id.h"
#include "serving/servables/servable.h"
#include "tensorflow_serving/apis/prediction_log.pb.h"

namespace tfipu::serving {

// A finished inference call, of any transport.
struct CallRecord {
  absl::string_view model;       // as the client named it; "" when it did not
  absl::string_view api;         // "Predict", "Classify", "Regress", "MultiInference"
  absl::string_view entrypoint;  // "GRPC" or "REST"
  absl::Status status;
  absl::Duration latency;                // from the request's arrival to its reply being ready
  absl::Duration runtime;                // of that, inside the servable
  const Signature* signature = nullptr;  // null when there are several, or none was found
  int examples = 0;                      // that a successful Classify, Regress or MultiInference was given
};

// Thread-safe; called on every call's path.
class CallObserver {
 public:
  virtual ~CallObserver() = default;

  virtual void Finished(const CallRecord& call) = 0;

  // Whether this call's messages are wanted as well (a sampling decision). Asked before the call runs.
  virtual bool WantsLog(const ServableId& servable) { return false; }

  // Request and response of a call for which WantsLog() said so and that succeeded.
  virtual void Log(const ServableId& servable, std::unique_ptr<tensorflow::serving::PredictionLog> log) {}
};

}  // namespace tfipu::serving

#endif  // SERVING_API_CALL_OBSERVER_H_
