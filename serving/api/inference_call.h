// The life of an inference call, from its arrival to its answer, whatever transport brought it.
#ifndef SERVING_API_INFERENCE_CALL_H_
#define SERVING_API_INFERENCE_CALL_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "serving/api/call_observer.h"
#include "serving/api/inference.h"
#include "serving/api/repeated_bytes.h"
#include "serving/compute/compute_slots.h"
#include "serving/core/servable_directory.h"
#include "serving/servables/servable.h"
#include "tensorflow_serving/apis/prediction_log.pb.h"

namespace tfipu::serving {

// What the calls of a transport work with. All of it outlives them.
struct InferenceServices {
  const ServableDirectory* directory = nullptr;
  compute::ComputeQueue* compute = nullptr;  // where work runs that is not short
  CallObserver* observer = nullptr;          // may be null
  InferenceOptions inference;
};

// A call goes through these stages; those in brackets are a transport's and a message's own:
//
//   Begin -> [Read] -> Servable::Start, one part after the other -> [TakeResults] -> [Write] -> [Answer]
//
// Read() runs in the thread that brought the request, or on a slot when the request is large; all that
// follows in whatever thread the part before ended. An error of any stage is the answer. The observer is told
// before it. The call owns itself: whoever has the next stage to run holds the pointer, and when it is
// destroyed without an answer, as an allocation has failed, it answers ResourceExhausted.
class InferenceCall {
 public:
  virtual ~InferenceCall() = default;
  InferenceCall(const InferenceCall&) = delete;
  InferenceCall& operator=(const InferenceCall&) = delete;

  // Runs the call's life. `large`: reading it takes longer than a thread that others wait for has.
  static void Begin(std::unique_ptr<InferenceCall> call, bool large);

 protected:
  // One run of a signature. Most calls have one part, MultiInference one for each task.
  struct Part {
    const Signature* signature = nullptr;
    std::vector<tensorflow::Tensor> inputs;
    std::vector<int> outputs;
  };

  // `api` and `entrypoint` are CallRecord's. `terms`: what holds for the call beside its message.
  InferenceCall(const InferenceServices& services, const char* api, const char* entrypoint,
                CallContext terms);

  // Reads the request: finds the servable with FindServable(), tells Found() what is run, and adds to
  // parts().
  virtual absl::Status Read() = 0;
  // The value of the field kPriorityField.
  virtual absl::string_view priority() const = 0;
  virtual absl::Status TakeResults(std::size_t part, std::vector<tensorflow::Tensor> results) = 0;
  // Builds the reply, and fills log() if there is one.
  virtual absl::Status Write() = 0;
  // Sends what Write() has built, or the error. Once, and the last that is called.
  virtual void Answer(const absl::Status& status) = 0;

  // To be called by the destructor of each class that implements Answer().
  void AnswerIfNobodyDid() noexcept;

  // For Read(). Counts the call for the model of that name from here on, checks the terms, and finds the
  // version that runs.
  absl::Status FindServable(const ModelSpec& spec);
  void Found(const Signature* signature) { signature_ = signature; }
  std::vector<Part>& parts() { return parts_; }
  void set_model(absl::string_view model) { model_ = std::string(model); }
  void set_examples(int examples) { examples_ = examples; }
  RepeatedBytes* repeated() { return &repeated_; }

  const InferenceServices& services() const { return services_; }
  // After FindServable() was OK.
  const Servable& servable() const { return *servable_; }
  const Signature* signature() const { return signature_; }
  // Null unless request and response are to be logged.
  tensorflow::serving::PredictionLog* log() const { return log_.get(); }

 private:
  static void Proceed(std::unique_ptr<InferenceCall> call);
  // Starts the next part, or ends the call when there is none.
  static void Continue(std::unique_ptr<InferenceCall> call);
  void Finish(const absl::Status& status);

  const InferenceServices& services_;
  const char* const api_;
  const char* const entrypoint_;
  CallContext terms_;
  std::string model_;
  std::shared_ptr<const Servable> servable_;
  const Signature* signature_ = nullptr;
  std::vector<Part> parts_;
  std::size_t next_part_ = 0;
  RepeatedBytes repeated_;
  std::unique_ptr<tensorflow::serving::PredictionLog> log_;
  std::int64_t started_ns_ = 0;
  std::int64_t part_started_ns_ = 0;
  std::int64_t run_ns_ = 0;
  int examples_ = 0;
  bool answered_ = false;
};

}  // namespace tfipu::serving

#endif  // SERVING_API_INFERENCE_CALL_H_
