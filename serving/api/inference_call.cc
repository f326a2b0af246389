#include "serving/api/inference_call.h"

#include <new>
#include <utility>

#include "absl/time/clock.h"
#include "cc/base/status_macros.h"
#include "serving/api/call_priority.h"
#include "serving/compute/guarded.h"

namespace tfipu::serving {

using tensorflow::Tensor;

InferenceCall::InferenceCall(const InferenceServices& services, const char* api, const char* entrypoint,
                             CallContext terms)
    : services_(services), api_(api), entrypoint_(entrypoint), terms_(std::move(terms)) {
  if (services.observer != nullptr) started_ns_ = absl::GetCurrentTimeNanos();
  terms_.compute = services.compute;
}

void InferenceCall::Begin(std::unique_ptr<InferenceCall> call, bool large) {
  if (!large) return compute::Guarded([&] { Proceed(std::move(call)); });
  compute::Guarded([&] {
    // Kept apart from the task, which is gone when it is refused.
    auto shared = std::make_shared<std::unique_ptr<InferenceCall>>(std::move(call));
    InferenceCall& waiting = **shared;
    absl::Status accepted = waiting.services_.compute->Run(waiting.priority() == "high",
                                                           [shared] { Proceed(std::move(*shared)); });
    if (!accepted.ok()) waiting.Finish(accepted);
  });
}

void InferenceCall::Proceed(std::unique_ptr<InferenceCall> call) {
  absl::Status status = call->Read();
  if (!status.ok()) return call->Finish(status);
  Continue(std::move(call));
}

void InferenceCall::Continue(std::unique_ptr<InferenceCall> call) {
  if (call->next_part_ == call->parts_.size()) {
    absl::Status written = call->Write();
    return call->Finish(written);
  }
  Part& part = call->parts_[call->next_part_];
  ServableCall run{part.signature, std::move(part.inputs), part.outputs, call->terms_};
  if (call->services_.observer != nullptr) call->part_started_ns_ = absl::GetCurrentTimeNanos();
  // The call keeps the servable until it is done, which may be before this returns.
  const std::shared_ptr<const Servable> servable = call->servable_;
  servable->Start(
      std::move(run),
      CallDone::Function([call = std::move(call)](absl::Status status, std::vector<Tensor> results) mutable {
        compute::Guarded([&] {
          if (call->services_.observer != nullptr) {
            call->run_ns_ += absl::GetCurrentTimeNanos() - call->part_started_ns_;
          }
          const std::size_t ended = call->next_part_++;
          if (status.ok()) status = call->TakeResults(ended, std::move(results));
          if (!status.ok()) return call->Finish(status);
          Continue(std::move(call));
        });
      }));
}

absl::Status InferenceCall::FindServable(const ModelSpec& spec) {
  model_ = spec.name;
  TFIPU_RETURN_IF_ERROR(SetPriority(priority(), &terms_));
  TFIPU_ASSIGN_OR_RETURN(servable_, services_.directory->Find(spec));
  if (services_.observer != nullptr && services_.observer->WantsLog(servable_->id())) {
    log_ = std::make_unique<tensorflow::serving::PredictionLog>();
  }
  return absl::OkStatus();
}

void InferenceCall::Finish(const absl::Status& status) {
  answered_ = true;
  if (services_.observer != nullptr) {
    CallRecord record;
    record.model = servable_ != nullptr ? absl::string_view(servable_->id().name) : absl::string_view(model_);
    record.api = api_;
    record.entrypoint = entrypoint_;
    record.signature = signature_;
    record.status = status;
    record.latency = absl::Nanoseconds(absl::GetCurrentTimeNanos() - started_ns_);
    record.runtime = absl::Nanoseconds(run_ns_);
    record.examples = status.ok() ? examples_ : 0;
    services_.observer->Finished(record);
    if (log_ != nullptr && status.ok()) services_.observer->Log(servable_->id(), std::move(log_));
  }
  Answer(status);
}

void InferenceCall::AnswerIfNobodyDid() noexcept {
  if (answered_) return;
  try {
    Finish(absl::ResourceExhaustedError("The server has no room for the call."));
  } catch (const std::bad_alloc&) {
    // Not even the text of the error: the code alone may go.
    Answer(absl::ResourceExhaustedError(""));
  }
}

}  // namespace tfipu::serving
