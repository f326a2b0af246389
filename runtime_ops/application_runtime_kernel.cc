#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "cc/base/status_macros.h"
#include "cc/engine/engine_manager.h"
#include "runtime_ops/engine_scope.h"
#include "runtime_ops/feed_checks.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfipu {
namespace {

// Holds the engine that it started or attached to last.
class ApplicationRuntimeKernel : public tensorflow::OpKernel {
 public:
  explicit ApplicationRuntimeKernel(tensorflow::OpKernelConstruction* construction)
      : tensorflow::OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("engine_name", &engine_name_));
    OP_REQUIRES_OK(construction, construction->GetAttr("timeout_us", &timeout_us_));
  }

  void Compute(tensorflow::OpKernelContext* context) override {
    // Not OP_REQUIRES_OK, which logs: the loader of a model tells its reason once.
    if (absl::Status attached = Attach(context); !attached.ok()) {
      context->SetStatus(attached);
      return;
    }
    tensorflow::Tensor* anchor;
    OP_REQUIRES_OK(context, context->allocate_output(0, tensorflow::TensorShape({}), &anchor));
    anchor->scalar<std::int32_t>()() = 0;
  }

 private:
  absl::Status Attach(tensorflow::OpKernelContext* context) {
    const int count = context->num_inputs() - 1;
    const tensorflow::Tensor& filename = context->input(count);
    if (filename.dims() != 0) {
      return absl::InvalidArgumentError(absl::StrCat("The executable's filename has shape ",
                                                     filename.shape().DebugString(), ". Expected a scalar."));
    }
    std::vector<ConstBuffer> inputs(count);
    for (int i = 0; i < count; ++i) {
      if (!tensorflow::DataTypeCanUseMemcpy(context->input(i).dtype())) {
        return absl::InvalidArgumentError(absl::StrCat("Start-up input ", i, " has dtype ",
                                                       tensorflow::DataTypeString(context->input(i).dtype()),
                                                       ". Expected one that a device can hold."));
      }
      inputs[i] = BytesOf(context->input(i));
    }
    TFIPU_ASSIGN_OR_RETURN(const std::shared_ptr<Engine> engine,
                           EngineOn(*context, filename.scalar<tensorflow::tstring>()(), inputs));
    const ExecutableHeader& header = engine->executable().header();
    if (header.startup_inputs_size() != count) {
      return absl::InvalidArgumentError(absl::StrCat("Embedded application runtime expects ",
                                                     header.startup_inputs_size(), " inputs, but ", count,
                                                     " were provided."));
    }
    for (int i = 0; i < count; ++i) {
      TFIPU_RETURN_IF_ERROR(CheckInput(context->input(i), header.startup_inputs(i), i, /*any_rows=*/false));
    }
    return absl::OkStatus();
  }

  // Attaches once, for as long as that engine runs.
  absl::StatusOr<std::shared_ptr<Engine>> EngineOn(const tensorflow::OpKernelContext& context,
                                                   const std::string& path,
                                                   const std::vector<ConstBuffer>& inputs) {
    {
      absl::ReaderMutexLock lock(&mutex_);
      if (engine_ != nullptr && path_ == path && !engine_->stopped()) return engine_;
    }
    TFIPU_ASSIGN_OR_RETURN(
        std::shared_ptr<Engine> engine,
        EngineManager::Global().StartOrAttach({ReadScope(context.session_metadata()), engine_name_}, path,
                                              absl::Microseconds(timeout_us_), inputs));
    absl::MutexLock lock(&mutex_);
    path_ = path;
    // The one before is dropped outside of the lock.
    std::shared_ptr<Engine> attached = engine;
    engine_.swap(engine);
    return attached;
  }

  std::string engine_name_;
  std::int64_t timeout_us_ = 0;
  absl::Mutex mutex_;
  std::string path_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Engine> engine_ ABSL_GUARDED_BY(mutex_);
};

REGISTER_KERNEL_BUILDER(Name("ApplicationRuntime").Device(tensorflow::DEVICE_CPU), ApplicationRuntimeKernel);

}  // namespace
}  // namespace tfipu
