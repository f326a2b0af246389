// Runs a signature in a TensorFlow session.
#ifndef SERVING_SERVABLES_SESSION_SIGNATURE_H_
#define SERVING_SERVABLES_SESSION_SIGNATURE_H_

#include <map>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/base/thread_annotations.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "serving/servables/row_times.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/public/session.h"

namespace tfipu::serving {

// One signature of one session, both of which outlive it. Thread-safe.
class SessionSignature {
 public:
  struct Options {
    int inter_op_thread_pool = -1;
    bool uses_device = false;     // operations of the graph may call a device
    bool enforce_shapes = false;  // inputs of other shapes than the signature's are refused
  };
  SessionSignature(tensorflow::Session* session, const Signature* signature, const Options& options);

  // Finds out once whether the signature can be run, and how.
  const absl::Status& Prepare();

  // Servable::Start(). A call that is expected to be short is run in this thread, others on a slot.
  void Start(ServableCall call, CallDone done);

 private:
  // How to get a set of outputs from the session.
  struct Plan {
    tensorflow::Session::CallableHandle callable = 0;
    bool runs = true;  // false: all outputs are inputs
    // For each output: position among the callable's fetches, or -1 - position of the input that it is.
    absl::InlinedVector<int, 4> origin;
    bool in_order = true;  // the fetches are the outputs
  };

  bool IsAll(absl::Span<const int> outputs) const;
  absl::StatusOr<Plan> MakePlan(absl::Span<const int> outputs) const;
  void RunToEnd(ServableCall call, CallDone done);
  absl::Status Run(const ServableCall& call, std::vector<tensorflow::Tensor>* results);
  absl::Status RunSome(const ServableCall& call, std::vector<tensorflow::Tensor>* results,
                       absl::Duration* waited);
  absl::Status RunPlan(const Plan& plan, const ServableCall& call, std::vector<tensorflow::Tensor>* results,
                       absl::Duration* waited) const;

  tensorflow::Session* const session_;
  const Signature& signature_;
  const Options options_;
  absl::once_flag prepared_;
  absl::Status runnable_;
  Plan all_;
  RowTimes times_;
  absl::Mutex mutex_;
  std::map<std::vector<int>, Plan> some_ ABSL_GUARDED_BY(mutex_);
};

// Runs a callable as TensorFlow runs what it is given itself: denormal numbers count as zero.
absl::Status RunCallable(tensorflow::Session* session, tensorflow::Session::CallableHandle callable,
                         const std::vector<tensorflow::Tensor>& feeds,
                         std::vector<tensorflow::Tensor>* results);

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_SESSION_SIGNATURE_H_
