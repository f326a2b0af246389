// Models and calls for tests of the APIs: no TensorFlow session, no transport.
#ifndef SERVING_API_FAKE_SERVABLE_H_
#define SERVING_API_FAKE_SERVABLE_H_

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "serving/api/rpc.h"
#include "serving/compute/compute_slots.h"
#include "serving/core/servable_directory.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {

// Runs a function.
class FakeServable : public Servable {
 public:
  using Function = std::function<absl::Status(const Signature&, const std::vector<tensorflow::Tensor>&,
                                              absl::Span<const int>, std::vector<tensorflow::Tensor>*)>;

  FakeServable(ServableId id, Function function) : id_(std::move(id)), function_(std::move(function)) {}

  void Add(Signature signature) {
    const auto by_alias = [](const SignatureTensor& a, const SignatureTensor& b) {
      return a.alias < b.alias;
    };
    std::sort(signature.inputs.begin(), signature.inputs.end(), by_alias);
    std::sort(signature.outputs.begin(), signature.outputs.end(), by_alias);
    for (const SignatureTensor& input : signature.inputs) {
      auto& info = (*signature.def.mutable_inputs())[input.alias];
      info.set_name(input.tensor_name);
      info.set_dtype(input.dtype);
    }
    for (const SignatureTensor& output : signature.outputs) {
      auto& info = (*signature.def.mutable_outputs())[output.alias];
      info.set_name(output.tensor_name);
      info.set_dtype(output.dtype);
    }
    signature.def.set_method_name(signature.method_name);
    std::string name = signature.name;
    signatures_.emplace(std::move(name), std::move(signature));
  }

  const ServableId& id() const override { return id_; }
  const std::map<std::string, Signature, std::less<>>& signatures() const override { return signatures_; }
  void Start(ServableCall call, CallDone done) const override {
    high_priority = call.context.high_priority;
    compute::ComputeQueue* const compute = call.context.compute;
    auto run = [this, call = std::move(call), done = std::move(done)]() mutable {
      absl::Status status = CheckWanted(call.context);
      std::vector<tensorflow::Tensor> results;
      if (status.ok()) status = function_(*call.signature, call.inputs, call.outputs, &results);
      done(std::move(status), std::move(results));
    };
    if (expected_short) return run();
    compute->Run(false, std::move(run)).IgnoreError();
  }

  bool expected_short = true;          // or on a slot
  mutable bool high_priority = false;  // of the last call

 private:
  const ServableId id_;
  const Function function_;
  std::map<std::string, Signature, std::less<>> signatures_;
};

// Holds one servable, under its own name and version and the label "stable".
class FakeDirectory : public ServableDirectory {
 public:
  explicit FakeDirectory(std::shared_ptr<const Servable> servable) : servable_(std::move(servable)) {}

  absl::StatusOr<std::shared_ptr<const Servable>> Find(const ModelSpec& spec) const override {
    const ServableId& id = servable_->id();
    if (spec.name != id.name || (spec.version && *spec.version != id.version)) {
      return absl::NotFoundError("Servable not found for request: Latest(" + spec.name + ")");
    }
    if (!spec.label.empty() && spec.label != "stable") {
      return absl::InvalidArgumentError("Unrecognized servable version label: " + spec.label);
    }
    return servable_;
  }
  absl::StatusOr<std::vector<ServableState>> States(const ModelSpec& spec) const override {
    if (spec.name != servable_->id().name) {
      return absl::NotFoundError("Could not find any versions of model " + spec.name);
    }
    return AllStates();
  }
  std::vector<ServableState> AllStates() const override {
    return {{servable_->id(), ServableStage::kAvailable, absl::OkStatus()},
            {{servable_->id().name, servable_->id().version - 1},
             ServableStage::kEnd,
             absl::NotFoundError("gone")}};
  }

 private:
  const std::shared_ptr<const Servable> servable_;
};

// A call whose request is cut into slices of `slice` bytes.
class FakeCall : public RpcCall {
 public:
  explicit FakeCall(std::string request, std::size_t slice = std::numeric_limits<std::size_t>::max())
      : request_(std::move(request)) {
    for (std::size_t at = 0; at < request_.size(); at += std::min(slice, request_.size() - at)) {
      slices_.push_back({request_.data() + at, std::min(slice, request_.size() - at)});
    }
  }
  virtual ~FakeCall() = default;

  const std::vector<Slice>& request() const override { return slices_; }
  std::int64_t deadline_unix_us() const override { return deadline; }
  std::string_view metadata(std::string_view key) const override {
    return key == "x-priority" ? priority : "";
  }
  bool cancelled() const override { return is_cancelled; }
  void* AllocateReply(std::size_t size) override {
    reply.assign(size, '\xee');
    return reply.data();
  }
  void Finish(RpcStatus finished) override {
    status = std::move(finished);
    ++finishes;
  }

  std::int64_t deadline = std::numeric_limits<std::int64_t>::max();
  bool is_cancelled = false;
  std::string priority;
  std::string reply;
  RpcStatus status;
  std::atomic<int> finishes = 0;

 private:
  const std::string request_;
  std::vector<Slice> slices_;
};

}  // namespace tfipu::serving

#endif  // SERVING_API_FAKE_SERVABLE_H_
