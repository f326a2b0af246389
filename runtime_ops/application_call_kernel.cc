#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "cc/base/status_macros.h"
#include "cc/engine/caller_context.h"
#include "cc/engine/engine_manager.h"
#include "cc/executable/executable.h"
#include "runtime_ops/engine_scope.h"
#include "runtime_ops/tensor_call.h"
#include "tensorflow/core/framework/cancellation.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfipu {
namespace {

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
    absl::StatusOr<std::shared_ptr<Engine>> engine = FindEngine(*context);
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
    if (context->run_all_kernels_inline()) {
      absl::Status status = CallAndWait(**engine, std::move(call), cancellation.get());
      if (!status.ok()) context->SetStatus(status);
      done();
      return;
    }
    // The executor has threads of its own, to which the engine's thread passes the rest of the graph.
    call.done = [context, cancellation, done = std::move(done)](absl::Status status) {
      if (cancellation != nullptr) cancellation->Deregister();
      if (!status.ok()) context->SetStatus(status);
      done();
    };
    const CallId id = (*engine)->Enqueue(std::move(call));
    if (cancellation != nullptr) cancellation->SetCall(id);
  }

 private:
  // Whoever runs kernels in line has given its thread to this step, and has no other that could go on with
  // the graph: it runs the device if that is free, else waits, and what follows runs here.
  static absl::Status CallAndWait(Engine& engine, Call call, StepCancellation* cancellation) {
    AnswerLatch latch;
    absl::Duration waited;
    call.waited = &waited;
    call.done = [&latch](absl::Status status) { latch.Set(std::move(status)); };
    const CallerContext* caller = CurrentCallerContext();
    if (caller != nullptr) call.cancelled = caller->cancelled;
    const CallId id = engine.Add(std::move(call));
    if (cancellation != nullptr) cancellation->SetCall(id);
    engine.RunHere(Engine::Patience::kAny);
    absl::Status status = latch.Wait();
    if (caller != nullptr && caller->waited != nullptr) *caller->waited += waited;
    if (cancellation != nullptr) cancellation->Deregister();
    return status;
  }

  // Looks it up once, for as long as it runs.
  absl::StatusOr<std::shared_ptr<Engine>> FindEngine(const tensorflow::OpKernelContext& context) {
    {
      absl::ReaderMutexLock lock(&mutex_);
      std::shared_ptr<Engine> engine = engine_.lock();
      if (engine != nullptr && !engine->stopped()) return engine;
    }
    TFIPU_ASSIGN_OR_RETURN(
        std::shared_ptr<Engine> engine,
        EngineManager::Global().Find({ReadScope(context.session_metadata()), engine_name_}));
    absl::MutexLock lock(&mutex_);
    engine_ = engine;
    return engine;
  }

  // Checks the inputs, allocates the outputs and points the call at both.
  static absl::Status Prepare(tensorflow::OpKernelContext* context, const ExecutableHeader& header,
                              Call& call) {
    if (context->num_outputs() != header.outfeeds_size()) {
      return absl::FailedPreconditionError(absl::StrCat("Embedded application call has ",
                                                        header.outfeeds_size(), " outputs, but ",
                                                        context->num_outputs(), " were expected."));
    }
    TFIPU_RETURN_IF_ERROR(PrepareCall(
        header, context->num_inputs() - 1,
        [&](int i) -> const tensorflow::Tensor& { return context->input(i); },
        [&](int i, tensorflow::DataType type, const tensorflow::TensorShape& shape,
            tensorflow::Tensor** output) {
          if (context->expected_output_dtype(i) != type) {
            return absl::FailedPreconditionError(absl::StrCat(
                "Mismatched output dtype at position ", i, " ('", header.outfeeds(i).name(), "'). Expected ",
                ElementTypeName(header.outfeeds(i).type()), ", but output ", i, " has dtype ",
                tensorflow::DataTypeString(context->expected_output_dtype(i)), "."));
          }
          return absl::Status(context->allocate_output(i, shape, output));
        },
        &call));
    if (context->deadline().has_value()) call.deadline = *context->deadline();
    if (const CallerContext* caller = CurrentCallerContext()) {
      call.deadline = std::min(call.deadline, caller->deadline);
      call.priority = caller->priority;
    }
    return absl::OkStatus();
  }

  std::string engine_name_;
  absl::Mutex mutex_;
  std::weak_ptr<Engine> engine_ ABSL_GUARDED_BY(mutex_);
};

REGISTER_KERNEL_BUILDER(Name("ApplicationCall").Device(tensorflow::DEVICE_CPU), ApplicationCallKernel);

}  // namespace
}  // namespace tfipu
