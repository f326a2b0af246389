#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/engine/call_context.h"
#include "runtime_ops/feed_checks.h"
#include "tensorflow/core/framework/cancellation.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfipu {
namespace {

// When a waiting thread asks whether its caller has gone: after this time, and then each time after twice as
// long as before, up to the longest. Hundreds of threads that wait long must not be busy with asking.
constexpr std::chrono::milliseconds kFirstAskCancelled{5};
constexpr std::chrono::milliseconds kLongestAskCancelled{160};

// Cancels a call when TensorFlow cancels the step it belongs to. Outlives the step, if need be, in the hands
// of the cancellation manager.
class StepCancellation : public std::enable_shared_from_this<StepCancellation> {
 public:
  explicit StepCancellation(const std::shared_ptr<Engine>& engine) : engine_(engine) {}

  // False: the step is cancelled already.
  bool Register(tensorflow::CancellationManager* manager) {
    manager_ = manager;
    token_ = manager->get_cancellation_token();
    return manager->RegisterCallback(token_, [self = shared_from_this()] { self->Cancel(); });
  }

  // To be called before the step may end. Does not wait for a callback that runs: it may be the caller.
  void Deregister() { manager_->TryDeregisterCallback(token_); }

  void SetCall(CallId id) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      id_ = id;
      if (!cancelled_) return;
    }
    CancelCall(id);
  }

 private:
  void Cancel() {
    CallId id;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      cancelled_ = true;
      id = id_;
    }
    if (id != 0) CancelCall(id);
  }

  void CancelCall(CallId id) {
    if (std::shared_ptr<Engine> engine = engine_.lock()) engine->Cancel(id);
  }

  const std::weak_ptr<Engine> engine_;
  tensorflow::CancellationManager* manager_ = nullptr;
  tensorflow::CancellationToken token_;
  std::mutex mutex_;
  CallId id_ = 0;
  bool cancelled_ = false;
};

// Where a thread waits for the answer of its call.
class AnswerLatch {
 public:
  void Set(absl::Status status) {
    // Notified under the lock: the waiting thread destroys the latch as soon as it sees the answer.
    std::lock_guard<std::mutex> lock(mutex_);
    status_ = std::move(status);
    answered_ = true;
    changed_.notify_one();
  }

  absl::Status Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return answered_; });
    return std::move(status_);
  }

  bool WaitFor(std::chrono::milliseconds duration) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, duration, [this] { return answered_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool answered_ = false;
  absl::Status status_;
};

class ApplicationCallKernel : public tensorflow::AsyncOpKernel {
 public:
  explicit ApplicationCallKernel(tensorflow::OpKernelConstruction* construction)
      : tensorflow::AsyncOpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("engine_name", &engine_name_));
  }

  void ComputeAsync(tensorflow::OpKernelContext* context, DoneCallback done) override {
    // Not OP_REQUIRES_OK, which logs: what a caller did wrong is the caller's to know.
    absl::StatusOr<std::shared_ptr<Engine>> engine =
        EngineManager::Global().Find(KeyFor(*context, engine_name_));
    Call call;
    absl::Status prepared =
        engine.ok() ? Prepare(context, (*engine)->executable().header(), call) : engine.status();
    std::shared_ptr<StepCancellation> cancellation;
    if (prepared.ok() && context->cancellation_manager() != nullptr) {
      cancellation = std::make_shared<StepCancellation>(*engine);
      if (!cancellation->Register(context->cancellation_manager())) {
        prepared = absl::CancelledError("The step was cancelled before the call was made.");
      }
    }
    if (!prepared.ok()) {
      context->SetStatus(prepared);
      done();
      return;
    }

    // Whoever runs kernels in line has given its thread to this step, and has no other that could go on with
    // runs the device if that is free, else waits, and the rest of the graph runs here.
    if (context->run_all_kernels_inline()) {
      AnswerLatch latch;
      absl::Duration waited;
      call.waited = &waited;
      call.run_here = true;
      call.done = [&latch](absl::Status status) { latch.Set(std::move(status)); };
      const CallId id = (*engine)->Enqueue(std::move(call));
      if (cancellation != nullptr) cancellation->SetCall(id);
      const CallContext* caller = CurrentCallContext();
      if (caller != nullptr && caller->cancelled) {
        std::chrono::milliseconds ask = kFirstAskCancelled;
        while (!latch.WaitFor(ask)) {
          if (caller->cancelled() && (*engine)->Cancel(id)) break;
          ask = std::min(2 * ask, kLongestAskCancelled);
        }
      }
      absl::Status status = latch.Wait();
      if (caller != nullptr && caller->waited != nullptr) *caller->waited += waited;
      if (cancellation != nullptr) cancellation->Deregister();
      if (!status.ok()) context->SetStatus(status);
      done();
      return;
    }

    // Elsewhere the executor has threads of its own, to which the engine's thread passes the rest of the
    // graph.
    call.done = [context, cancellation, done = std::move(done)](absl::Status status) {
      if (cancellation != nullptr) cancellation->Deregister();
      if (!status.ok()) context->SetStatus(status);
      done();
    };
    const CallId id = (*engine)->Enqueue(std::move(call));
    if (cancellation != nullptr) cancellation->SetCall(id);
  }

 private:
  // Checks the inputs, allocates the outputs and points the call at both.
  static absl::Status Prepare(tensorflow::OpKernelContext* context, const ExecutableHeader& header,
                              Call& call) {
    const int infeeds = context->num_inputs() - 1;
    if (infeeds != header.infeeds_size()) {
      return absl::FailedPreconditionError(absl::StrCat("Embedded application call expects ",
                                                        header.infeeds_size(), " inputs, but ", infeeds,
                                                        " were provided."));
    }
    if (context->num_outputs() != header.outfeeds_size()) {
      return absl::FailedPreconditionError(absl::StrCat("Embedded application call has ",
                                                        header.outfeeds_size(), " outputs, but ",
                                                        context->num_outputs(), " were expected."));
    }
    const bool any_rows = header.dynamic_batch();
    call.infeeds.reserve(infeeds);
    for (int i = 0; i < infeeds; ++i) {
      const tensorflow::Tensor& input = context->input(i);
      TFIPU_RETURN_IF_ERROR(CheckInput(input, header.infeeds(i), i, any_rows));
      call.infeeds.push_back(BytesOf(input));
      if (!any_rows) continue;
      if (i == 0) call.rows = input.dim_size(0);
      if (input.dim_size(0) != call.rows) {
        return absl::FailedPreconditionError(absl::StrCat(
            "Mismatched input shape at position ", i, " ('", header.infeeds(i).name(), "'). Expected ",
            call.rows, " rows like input 0, but input ", i, " has shape ", input.shape().DebugString(), "."));
      }
    }
    if (any_rows && infeeds == 0) call.rows = header.outfeeds(0).dims(0);
    call.outfeeds.reserve(header.outfeeds_size());
    for (int i = 0; i < header.outfeeds_size(); ++i) {
      const TensorSpec& spec = header.outfeeds(i);
      if (static_cast<int>(context->expected_output_dtype(i)) != static_cast<int>(spec.type())) {
        return absl::FailedPreconditionError(
            absl::StrCat("Mismatched output dtype at position ", i, " ('", spec.name(), "'). Expected ",
                         ElementTypeName(spec.type()), ", but output ", i, " has dtype ",
                         tensorflow::DataTypeString(context->expected_output_dtype(i)), "."));
      }
      tensorflow::TensorShape shape;
      for (int d = 0; d < spec.dims_size(); ++d) {
        TFIPU_RETURN_IF_ERROR(shape.AddDimWithStatus(d == 0 && any_rows ? call.rows : spec.dims(d)));
      }
      tensorflow::Tensor* output;
      TFIPU_RETURN_IF_ERROR(context->allocate_output(i, shape, &output));
      const ConstBuffer bytes = BytesOf(*output);
      call.outfeeds.emplace_back(const_cast<std::byte*>(bytes.data()), bytes.size());
    }
    if (context->deadline().has_value()) call.deadline = *context->deadline();
    if (const CallContext* caller = CurrentCallContext()) {
      call.deadline = std::min(call.deadline, caller->deadline);
      call.priority = caller->priority;
    }
    return absl::OkStatus();
  }

  std::string engine_name_;
};

REGISTER_KERNEL_BUILDER(Name("ApplicationCall").Device(tensorflow::DEVICE_CPU), ApplicationCallKernel);

}  // namespace
}  // namespace tfipu
