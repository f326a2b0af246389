#include "serving/servables/saved_model.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/base/thread_annotations.h"
#include "absl/container/inlined_vector.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "cc/base/status_macros.h"
#include "cc/engine/call_context.h"
#include "runtime_ops/engine_scope.h"
#include "serving/servables/device_calls.h"
#include "serving/servables/signature.h"
#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/cc/saved_model/reader.h"
#include "tensorflow/core/public/session.h"
#include "tsl/platform/denormal.h"
#include "tsl/platform/setround.h"

namespace tfipu::serving {
namespace {

using tensorflow::MetaGraphDef;
using tensorflow::Session;
using tensorflow::Tensor;

// Calls shorter than this on average are run by a transport's thread.
constexpr float kShortMicroseconds = 200;

constexpr char kDefaultSignature[] = "serving_default";
// Signatures that are made ready when a model is loaded. It takes some 10 ms each, and some models have
// dozens.
constexpr int kPreparedSignatures = 4;

// Different sets of outputs that a signature keeps a callable for; beyond, all outputs are computed and some
// dropped.
constexpr std::size_t kMaxOutputSets = 32;

// How to get a set of outputs from the session.
struct Plan {
  Session::CallableHandle callable = 0;
  bool runs = true;  // false: all outputs are inputs
  // For each output: position among the callable's fetches, or -1 - position of the input that it is.
  absl::InlinedVector<int, 4> origin;
  bool in_order = true;  // the fetches are the outputs
};

struct SignatureState {
  absl::once_flag prepared;
  absl::Status runnable;
  Plan all;
  // Average time of a call in microseconds; 0 until there was one. Updates may get lost between threads.
  std::atomic<float> average{0};
  mutable absl::Mutex mutex;
  std::map<std::vector<int>, Plan> some ABSL_GUARDED_BY(mutex);
};

class SavedModelServable : public Servable {
 public:
  SavedModelServable(ServableId id, const SavedModelOptions& options, std::unique_ptr<Session> session,
                     Signatures signatures, bool uses_device)
      : id_(std::move(id)),
        inter_op_thread_pool_(options.use_inter_op_pool ? 0 : -1),
        enforce_shapes_(options.enforce_shapes),
        uses_device_(uses_device),
        session_(std::move(session)),
        signatures_(std::move(signatures)),
        states_(signatures_.size()) {}

  ~SavedModelServable() override { session_->Close().IgnoreError(); }

  // Makes the first signatures ready, that of most calls before all others; the rest is when it is called.
  // One that is not for calls, as of sparse tensors, fails its calls and not the version.
  absl::Status Prepare() {
    int ahead = kPreparedSignatures;
    const auto found = signatures_.find(kDefaultSignature);
    if (found != signatures_.end() && found->second.runnable.ok()) {
      TFIPU_RETURN_IF_ERROR(PrepareSignature(found->second));
      --ahead;
    }
    for (const auto& [name, signature] : signatures_) {
      if (name == kDefaultSignature || !signature.runnable.ok()) continue;
      if (--ahead < 0) break;
      TFIPU_RETURN_IF_ERROR(PrepareSignature(signature));
    }
    return absl::OkStatus();
  }

  const ServableId& id() const override { return id_; }
  const Signatures& signatures() const override { return signatures_; }

  absl::Status Run(const Signature& signature, const std::vector<Tensor>& inputs,
                   absl::Span<const int> outputs, const CallContext& context,
                   std::vector<Tensor>* results) const override {
    SignatureState& state = states_[signature.index];
    TFIPU_RETURN_IF_ERROR(PrepareSignature(signature));
    TFIPU_RETURN_IF_ERROR(CheckInputs(signature, inputs, enforce_shapes_ || !signature.engines.empty()));
    const absl::Time start = absl::Now();
    if (context.deadline <= start) {
      return absl::DeadlineExceededError("The deadline passed before the model was run.");
    }
    absl::Status status;
    // A transport's thread may wait for a device, which others like it use for as short a time.
    absl::Duration waited;
    if (IsAll(signature, outputs)) {
      status = RunPlan(state.all, inputs, context, results, &waited);
    } else {
      Plan plan;
      bool all = false;
      {
        absl::MutexLock lock(&state.mutex);
        const std::vector<int> key(outputs.begin(), outputs.end());
        auto found = state.some.find(key);
        if (found == state.some.end() && state.some.size() < kMaxOutputSets) {
          absl::StatusOr<Plan> made = MakePlan(signature, outputs);
          status = made.status();
          if (made.ok()) found = state.some.emplace(key, *std::move(made)).first;
        }
        all = found == state.some.end();
        if (!all) plan = found->second;
      }
      if (status.ok()) status = RunPlan(all ? state.all : plan, inputs, context, results, &waited);
      if (all && status.ok()) {
        std::vector<Tensor> chosen;
        for (const int output : outputs) chosen.push_back((*results)[output]);
        results->swap(chosen);
      }
    }
    const float took = static_cast<float>(absl::ToDoubleMicroseconds(absl::Now() - start - waited));
    const float average = state.average.load(std::memory_order_relaxed);
    // Rises at once and falls slowly: one long call that holds up a transport is worse than many that are
    // handed over.
    const float next = average == 0 ? took : average + (took - average) * (took > average ? 0.125f : 0.02f);
    state.average.store(next, std::memory_order_relaxed);
    return status;
  }

  bool UsesDevice() const override { return uses_device_; }

  bool ExpectedShort(const Signature& signature) const override {
    const float average = states_[signature.index].average.load(std::memory_order_relaxed);
    return average > 0 && average < kShortMicroseconds;
  }

 private:
  // Whether the signature can be run, and how, is found out once.
  const absl::Status& PrepareSignature(const Signature& signature) const {
    SignatureState& state = states_[signature.index];
    absl::call_once(state.prepared, [&] {
      state.runnable = signature.runnable;
      if (!state.runnable.ok()) return;
      std::vector<int> outputs;
      for (std::size_t i = 0; i < signature.outputs.size(); ++i) outputs.push_back(static_cast<int>(i));
      absl::StatusOr<Plan> plan = MakePlan(signature, outputs);
      state.runnable = plan.status();
      if (plan.ok()) state.all = *std::move(plan);
    });
    return state.runnable;
  }

  static bool IsAll(const Signature& signature, absl::Span<const int> outputs) {
    if (outputs.size() != signature.outputs.size()) return false;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i] != static_cast<int>(i)) return false;
    }
    return true;
  }

  absl::StatusOr<Plan> MakePlan(const Signature& signature, absl::Span<const int> outputs) const {
    Plan plan;
    tensorflow::CallableOptions options;
    options.mutable_run_options()->set_inter_op_thread_pool(inter_op_thread_pool_);
    for (const SignatureTensor& input : signature.inputs) options.add_feed(input.tensor_name);
    // A session neither fetches a tensor twice nor one that is fed.
    for (const int output : outputs) {
      const std::string& name = signature.outputs[output].tensor_name;
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
    return absl::Status(status.code(),
                        absl::StrCat("Signature \"", signature.name, "\": ", status.message()));
  }

  absl::Status RunPlan(const Plan& plan, const std::vector<Tensor>& inputs, const CallContext& context,
                       std::vector<Tensor>* results, absl::Duration* waited) const {
    results->clear();
    if (plan.runs) {
      // As TensorFlow's own threads do: denormals are zeros, which is also many times faster.
      const tsl::port::ScopedFlushDenormal flush;
      const tsl::port::ScopedSetRound round(FE_TONEAREST);
      if (uses_device_) {
        tfipu::CallContext device_context;
        device_context.deadline = context.deadline;
        device_context.priority = context.high_priority ? Priority::kHigh : Priority::kNormal;
        device_context.cancelled = context.cancelled;
        device_context.waited = waited;
        const ScopedCallContext scope(&device_context);
        TFIPU_RETURN_IF_ERROR(session_->RunCallable(plan.callable, inputs, results, nullptr));
      } else {
        TFIPU_RETURN_IF_ERROR(session_->RunCallable(plan.callable, inputs, results, nullptr));
      }
    }
    if (plan.in_order) return absl::OkStatus();
    std::vector<Tensor> ordered;
    ordered.reserve(plan.origin.size());
    for (const int origin : plan.origin)
      ordered.push_back(origin >= 0 ? (*results)[origin] : inputs[-1 - origin]);
    results->swap(ordered);
    return absl::OkStatus();
  }

  const ServableId id_;
  const int inter_op_thread_pool_;
  const bool enforce_shapes_;
  const bool uses_device_;
  const std::unique_ptr<Session> session_;
  const Signatures signatures_;
  mutable std::vector<SignatureState> states_;
};

absl::StatusOr<std::unique_ptr<const Servable>> Load(const VersionSource& source,
                                                     const SavedModelOptions& options) {
  MetaGraphDef meta_graph;
  TFIPU_RETURN_IF_ERROR(tensorflow::ReadMetaGraphDefFromSavedModel(source.path, options.tags, &meta_graph));
  TFIPU_ASSIGN_OR_RETURN(Signatures signatures, SignaturesOf(meta_graph));

  const DeviceCalls device_calls(meta_graph);
  const bool uses_device = !device_calls.All().empty();
  if (uses_device) {
    for (auto& [_, signature] : signatures) {
      const std::set<std::string> engines = device_calls.Of(signature);
      signature.engines.assign(engines.begin(), engines.end());
    }
  }

  tensorflow::SessionOptions session_options;
  session_options.config = options.session;
  WriteScope({source.id.name, source.id.version, source.incarnation},
             session_options.config.mutable_experimental()->mutable_session_metadata());
  std::unique_ptr<Session> session;
  TFIPU_RETURN_IF_ERROR(tensorflow::LoadMetagraphIntoSession(session_options, meta_graph, &session));
  TFIPU_RETURN_IF_ERROR(
      tensorflow::RestoreSession(tensorflow::RunOptions(), meta_graph, source.path, &session));
  meta_graph.Clear();

  auto servable = std::make_unique<SavedModelServable>(source.id, options, std::move(session),
                                                       std::move(signatures), uses_device);
  TFIPU_RETURN_IF_ERROR(servable->Prepare());
  return std::unique_ptr<const Servable>(std::move(servable));
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Servable>> LoadSavedModelServable(const VersionSource& source,
                                                                       const SavedModelOptions& options) {
  absl::StatusOr<std::unique_ptr<const Servable>> loaded = Load(source, options);
  if (loaded.ok() || absl::StrContains(loaded.status().message(), source.path)) return loaded;
  return absl::Status(loaded.status().code(),
                      absl::StrCat("SavedModel ", source.path, ": ", loaded.status().message()));
}

}  // namespace tfipu::serving
