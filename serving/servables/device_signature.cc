#include "serving/servables/device_signature.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/run_times.h"
#include "cc/base/status_macros.h"
#include "cc/engine/engine_manager.h"
#include "runtime_ops/tensor_call.h"
#include "serving/compute/compute_slots.h"
#include "serving/compute/guarded.h"
#include "serving/compute/round.h"
#include "serving/servables/session_signature.h"
#include "serving/servables/signature.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;

absl::StatusOr<tensorflow::Session::CallableHandle> MakeCallable(tensorflow::Session* session,
                                                                 const std::vector<std::string>& feeds,
                                                                 const std::vector<std::string>& fetches,
                                                                 int inter_op_thread_pool) {
  tensorflow::CallableOptions options;
  options.mutable_run_options()->set_inter_op_thread_pool(inter_op_thread_pool);
  for (const std::string& feed : feeds) options.add_feed(feed);
  for (const std::string& fetch : fetches) options.add_fetch(fetch);
  tensorflow::Session::CallableHandle handle;
  TFIPU_RETURN_IF_ERROR(session->MakeCallable(options, &handle));
  return handle;
}

absl::StatusOr<std::shared_ptr<Engine>> Attach(tensorflow::Session* session, const EngineKey& key,
                                               const std::string& start) {
  // The model's initialisation has started it, as a rule.
  absl::StatusOr<std::shared_ptr<Engine>> engine = EngineManager::Global().Find(key);
  if (engine.ok() || start.empty()) return engine;
  TFIPU_RETURN_IF_ERROR(session->Run({}, {}, {start}, nullptr));
  return EngineManager::Global().Find(key);
}

// Runs `work` in this thread if that is right, else on a slot. `job` answers for itself when it is refused.
template <typename Job, typename Function>
void RunOrHandOver(bool here, std::unique_ptr<Job> job, Function work) {
  compute::ComputeQueue* const compute = job->call.context.compute;
  if (here || compute == nullptr || compute::ComputeSlots::InSlot()) return work(std::move(job));
  auto shared = std::make_shared<std::unique_ptr<Job>>(std::move(job));
  absl::Status accepted =
      compute->Run((*shared)->call.context.high_priority, [shared, work] { work(std::move(*shared)); });
  if (!accepted.ok()) (*shared)->done(std::move(accepted));
}

}  // namespace

struct DeviceSignature::Job {
  ServableCall call;
  CallDone done;
  std::vector<Tensor> feeds;    // what was computed before the device
  std::vector<Tensor> results;  // of the device
};

absl::StatusOr<std::unique_ptr<DeviceSignature>> DeviceSignature::Make(tensorflow::Session* session,
                                                                       const Signature* signature,
                                                                       const EngineScope& scope,
                                                                       DeviceCut cut,
                                                                       int inter_op_thread_pool) {
  auto made = std::unique_ptr<DeviceSignature>(new DeviceSignature(session, signature, std::move(cut)));
  const DeviceCut& own = made->cut_;
  TFIPU_ASSIGN_OR_RETURN(made->engine_, Attach(session, {scope, own.engine}, own.start));
  std::vector<std::string> inputs;
  for (const SignatureTensor& input : signature->inputs) inputs.push_back(input.tensor_name);
  if (!own.before.empty()) {
    TFIPU_ASSIGN_OR_RETURN(made->before_, MakeCallable(session, inputs, own.before, inter_op_thread_pool));
  }
  if (!own.after.empty()) {
    std::vector<std::string> feeds = own.results;
    feeds.insert(feeds.end(), inputs.begin(), inputs.end());
    TFIPU_ASSIGN_OR_RETURN(made->after_, MakeCallable(session, feeds, own.after, inter_op_thread_pool));
  }
  return made;
}

void DeviceSignature::Start(ServableCall call, CallDone done) {
  absl::Status status = CheckInputs(signature_, call.inputs, /*shapes=*/true);
  if (status.ok()) status = CheckWanted(call.context);
  if (!status.ok()) return done(std::move(status));
  auto job = std::make_unique<Job>();
  job->call = std::move(call);
  job->done = std::move(done);
  if (!before_.has_value()) return CallDevice(std::move(job));
  const bool here = before_times_.Of(job->call.inputs).IsShort();
  RunOrHandOver(here, std::move(job), [this](std::unique_ptr<Job> next) { RunBefore(std::move(next)); });
}

void DeviceSignature::RunBefore(std::unique_ptr<Job> job) {
  absl::Status status = CheckWanted(job->call.context);
  const auto start = std::chrono::steady_clock::now();
  if (status.ok()) status = RunCallable(session_, *before_, job->call.inputs, &job->feeds);
  before_times_.Of(job->call.inputs).Add(std::chrono::steady_clock::now() - start);
  if (!status.ok()) return job->done(std::move(status));
  CallDevice(std::move(job));
}

void DeviceSignature::CallDevice(std::unique_ptr<Job> job) {
  const ExecutableHeader& header = engine_->executable().header();
  const std::vector<Tensor>& inputs = job->call.inputs;
  Call call;
  job->results.resize(static_cast<std::size_t>(header.outfeeds_size()));
  absl::Status status = PrepareCall(
      header, static_cast<int>(before_.has_value() ? job->feeds.size() : cut_.inputs.size()),
      [&](int i) -> const Tensor& { return before_.has_value() ? job->feeds[i] : inputs[cut_.inputs[i]]; },
      [&](int i, tensorflow::DataType type, const tensorflow::TensorShape& shape, Tensor** output) {
        job->results[i] = Tensor(type, shape);
        *output = &job->results[i];
        if ((*output)->IsInitialized()) return absl::OkStatus();
        return absl::ResourceExhaustedError("There is no memory for the results of the call.");
      },
      &call);
  if (!status.ok()) return job->done(std::move(status));
  const CallContext& context = job->call.context;
  call.deadline = context.deadline;
  call.priority = context.high_priority ? Priority::kHigh : Priority::kNormal;
  call.cancelled = context.cancelled;
  auto* const raw = job.get();
  call.done = [this, raw](absl::Status answered) {
    compute::Guarded([&] { DeviceDone(std::unique_ptr<Job>(raw), std::move(answered)); });
  };
  // From here on the engine's answer owns the job, and may end the servable.
  job.release();
  const std::shared_ptr<Engine> engine = engine_;
  engine->Add(std::move(call));
  if (compute::Round* const round = compute::Round::Current()) {
    if (round->Has(engine.get())) return;
    return round->AtEnd(engine.get(), [engine] { engine->RunHere(Engine::Patience::kShort); });
  }
  engine->RunHere(compute::ComputeSlots::InSlot() ? Engine::Patience::kAny : Engine::Patience::kShort);
}

void DeviceSignature::DeviceDone(std::unique_ptr<Job> job, absl::Status status) {
  if (!status.ok()) return job->done(std::move(status));
  if (!after_.has_value()) {
    std::vector<Tensor> outputs;
    outputs.reserve(job->call.outputs.size());
    for (const int output : job->call.outputs) {
      const int origin = cut_.outputs[output];
      outputs.push_back(origin >= 0 ? job->results[origin] : job->call.inputs[-1 - origin]);
    }
    return job->done(absl::OkStatus(), std::move(outputs));
  }
  // What takes long must not hold up the device.
  const RecentTime& time = after_times_.Of(job->call.inputs);
  const bool here = time.known() && time.average() < kWorthHandingOver;
  RunOrHandOver(here, std::move(job), [this](std::unique_ptr<Job> next) { RunAfter(std::move(next)); });
}

void DeviceSignature::RunAfter(std::unique_ptr<Job> job) {
  std::vector<Tensor> feeds = std::move(job->results);
  feeds.insert(feeds.end(), job->call.inputs.begin(), job->call.inputs.end());
  std::vector<Tensor> all;
  const auto start = std::chrono::steady_clock::now();
  absl::Status status = RunCallable(session_, *after_, feeds, &all);
  after_times_.Of(job->call.inputs).Add(std::chrono::steady_clock::now() - start);
  if (!status.ok()) return job->done(std::move(status));
  std::vector<Tensor> outputs;
  outputs.reserve(job->call.outputs.size());
  for (const int output : job->call.outputs) outputs.push_back(all[output]);
  job->done(absl::OkStatus(), std::move(outputs));
}

}  // namespace tfipu::serving
