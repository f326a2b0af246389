#include "serving/servables/session_signature.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cc/base/status_macros.h"
#include "cc/engine/caller_context.h"
#include "serving/compute/compute_slots.h"
#include "serving/servables/signature.h"
#include "tensorflow/core/platform/denormal.h"
#include "tensorflow/core/platform/setround.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;

// Different sets of outputs that a signature keeps a callable for; beyond, all outputs are computed and some
// dropped.
constexpr std::size_t kMaxOutputSets = 32;

}  // namespace

absl::Status RunCallable(tensorflow::Session* session, tensorflow::Session::CallableHandle callable,
                         const std::vector<Tensor>& feeds, std::vector<Tensor>* results) {
  const tensorflow::port::ScopedFlushDenormal flush;
  const tensorflow::port::ScopedSetRound round(FE_TONEAREST);
  return session->RunCallable(callable, feeds, results, nullptr);
}

SessionSignature::SessionSignature(tensorflow::Session* session, const Signature* signature,
                                   const Options& options)
    : session_(session), signature_(*signature), options_(options) {}

const absl::Status& SessionSignature::Prepare() {
  absl::call_once(prepared_, [this] {
    runnable_ = signature_.runnable;
    if (!runnable_.ok()) return;
    std::vector<int> outputs;
    for (std::size_t i = 0; i < signature_.outputs.size(); ++i) outputs.push_back(static_cast<int>(i));
    absl::StatusOr<Plan> plan = MakePlan(outputs);
    runnable_ = plan.status();
    if (plan.ok()) all_ = *std::move(plan);
  });
  return runnable_;
}

void SessionSignature::Start(ServableCall call, CallDone done) {
  compute::ComputeQueue* const compute = call.context.compute;
  if (compute == nullptr || compute::ComputeSlots::InSlot() || times_.Of(call.inputs).IsShort()) {
    return RunToEnd(std::move(call), std::move(done));
  }
  // Kept apart from the task, which is gone when it is refused.
  auto job = std::make_shared<std::pair<ServableCall, CallDone>>(std::move(call), std::move(done));
  absl::Status accepted = compute->Run(job->first.context.high_priority, [this, job] {
    RunToEnd(std::move(job->first), std::move(job->second));
  });
  if (!accepted.ok()) job->second(std::move(accepted));
}

void SessionSignature::RunToEnd(ServableCall call, CallDone done) {
  std::vector<Tensor> results;
  absl::Status status = Run(call, &results);
  if (!status.ok()) results.clear();
  done(std::move(status), std::move(results));
}

absl::Status SessionSignature::Run(const ServableCall& call, std::vector<Tensor>* results) {
  TFIPU_RETURN_IF_ERROR(Prepare());
  TFIPU_RETURN_IF_ERROR(CheckInputs(signature_, call.inputs, options_.enforce_shapes));
  TFIPU_RETURN_IF_ERROR(CheckWanted(call.context));
  const auto start = std::chrono::steady_clock::now();
  // A thread that others wait for may wait for a device, which others like it use for as short a time.
  absl::Duration waited;
  absl::Status status =
      IsAll(call.outputs) ? RunPlan(all_, call, results, &waited) : RunSome(call, results, &waited);
  times_.Of(call.inputs).Add(std::chrono::steady_clock::now() - start - absl::ToChronoNanoseconds(waited));
  return status;
}

absl::Status SessionSignature::RunSome(const ServableCall& call, std::vector<Tensor>* results,
                                       absl::Duration* waited) {
  const Plan* plan = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    auto found = some_.find(call.outputs);
    if (found == some_.end() && some_.size() < kMaxOutputSets) {
      TFIPU_ASSIGN_OR_RETURN(Plan made, MakePlan(call.outputs));
      found = some_.emplace(call.outputs, std::move(made)).first;
    }
    if (found != some_.end()) plan = &found->second;  // which stays where it is
  }
  if (plan != nullptr) return RunPlan(*plan, call, results, waited);
  TFIPU_RETURN_IF_ERROR(RunPlan(all_, call, results, waited));
  std::vector<Tensor> chosen;
  for (const int output : call.outputs) chosen.push_back((*results)[output]);
  results->swap(chosen);
  return absl::OkStatus();
}

bool SessionSignature::IsAll(absl::Span<const int> outputs) const {
  if (outputs.size() != signature_.outputs.size()) return false;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i] != static_cast<int>(i)) return false;
  }
  return true;
}

absl::StatusOr<SessionSignature::Plan> SessionSignature::MakePlan(absl::Span<const int> outputs) const {
  Plan plan;
  tensorflow::CallableOptions options;
  options.mutable_run_options()->set_inter_op_thread_pool(options_.inter_op_thread_pool);
  for (const SignatureTensor& input : signature_.inputs) options.add_feed(input.tensor_name);
  // A session neither fetches a tensor twice nor one that is fed.
  for (const int output : outputs) {
    const std::string& name = signature_.outputs[output].tensor_name;
    int origin = 0;
    for (int i = 0; i < options.feed_size(); ++i) {
      if (options.feed(i) == name) origin = -1 - i;
    }
    if (origin == 0) {
      while (origin < options.fetch_size() && options.fetch(origin) != name) ++origin;
      if (origin == options.fetch_size()) options.add_fetch(name);
    }
    plan.in_order &= origin == static_cast<int>(plan.origin.size());
    plan.origin.push_back(origin);
  }
  plan.runs = options.fetch_size() > 0;
  if (!plan.runs) return plan;
  const absl::Status status = session_->MakeCallable(options, &plan.callable);
  if (status.ok()) return plan;
  return absl::Status(status.code(), absl::StrCat("Signature \"", signature_.name, "\": ", status.message()));
}

absl::Status SessionSignature::RunPlan(const Plan& plan, const ServableCall& call,
                                       std::vector<Tensor>* results, absl::Duration* waited) const {
  results->clear();
  if (plan.runs) {
    if (options_.uses_device) {
      CallerContext caller;
      caller.deadline = call.context.deadline;
      caller.priority = call.context.high_priority ? Priority::kHigh : Priority::kNormal;
      caller.cancelled = call.context.cancelled;
      caller.waited = waited;
      const ScopedCallerContext scope(&caller);
      TFIPU_RETURN_IF_ERROR(RunCallable(session_, plan.callable, call.inputs, results));
    } else {
      TFIPU_RETURN_IF_ERROR(RunCallable(session_, plan.callable, call.inputs, results));
    }
  }
  if (plan.in_order) return absl::OkStatus();
  std::vector<Tensor> ordered;
  ordered.reserve(plan.origin.size());
  for (const int origin : plan.origin) {
    ordered.push_back(origin >= 0 ? (*results)[origin] : call.inputs[-1 - origin]);
  }
  results->swap(ordered);
  return absl::OkStatus();
}

}  // namespace tfipu::serving
