#include "serving/api/rpc_inference.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cc/base/status_macros.h"
#include "google/protobuf/arena.h"
#include "serving/api/call_priority.h"
#include "serving/api/example_input.h"
#include "serving/api/examples_plan.h"
#include "serving/api/model_spec.h"
#include "serving/api/predict_reply.h"
#include "serving/api/predict_wire.h"
#include "serving/api/rpc_messages.h"
#include "serving/api/signature_call.h"
#include "serving/compute/guarded.h"
#include "serving/compute/round.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using tensorflow::serving::ClassificationRequest;
using tensorflow::serving::ClassificationResponse;
using tensorflow::serving::MultiInferenceRequest;
using tensorflow::serving::MultiInferenceResponse;
using tensorflow::serving::RegressionRequest;
using tensorflow::serving::RegressionResponse;

CallContext TermsOf(RpcCall* call) {
  CallContext terms;
  const std::int64_t deadline = call->deadline_unix_us();
  if (deadline != std::numeric_limits<std::int64_t>::max()) terms.deadline = absl::FromUnixMicros(deadline);
  terms.cancelled = [call] { return call->cancelled(); };
  return terms;
}

// What gRPC has in common.
class RpcInferenceCall : public InferenceCall {
 public:
  RpcInferenceCall(const InferenceServices& services, const char* api, RpcCall* call)
      : InferenceCall(services, api, "GRPC", TermsOf(call)), call_(call) {}
  ~RpcInferenceCall() override { AnswerIfNobodyDid(); }

 protected:
  absl::string_view priority() const override { return call_->metadata(kPriorityField); }
  void Answer(const absl::Status& status) override { call_->Finish(ToRpcStatus(status)); }
  RpcCall* rpc() const { return call_; }

 private:
  RpcCall* const call_;
};

class PredictRpc final : public RpcInferenceCall {
 public:
  PredictRpc(const InferenceServices& services, RpcCall* call)
      : RpcInferenceCall(services, "Predict", call) {}

 protected:
  absl::Status Read() override {
    PredictTarget target;
    TFIPU_RETURN_IF_ERROR(ParsePredictTarget(rpc()->request(), &target));
    absl::StatusOr<const Signature*> found = Find(target);
    if (!found.ok()) return UnlessMalformed(rpc()->request(), found.status());
    PredictInputs read;
    TFIPU_RETURN_IF_ERROR(ReadPredictInputs(rpc()->request(), **found, &read));
    *repeated() = std::move(read.repeated);
    parts().push_back({*found, std::move(read.inputs), std::move(read.outputs)});
    if (log() != nullptr) {
      ParseMessage(rpc()->request(), log()->mutable_predict_log()->mutable_request());
    }
    rpc()->ReleaseRequest();
    return absl::OkStatus();
  }

  absl::Status TakeResults(std::size_t, std::vector<Tensor> results) override {
    results_ = std::move(results);
    return absl::OkStatus();
  }

  absl::Status Write() override {
    PredictReply reply(servable().id(), *signature(), parts()[0].outputs, results_,
                       services().inference.tensor_content);
    std::size_t size = 0;
    TFIPU_RETURN_IF_ERROR(reply.Measure(&size));
    void* const bytes = rpc()->AllocateReply(size);
    if (bytes == nullptr) return absl::ResourceExhaustedError("There is no room for the reply.");
    reply.Write(bytes);
    if (log() != nullptr) {
      log()->mutable_predict_log()->mutable_response()->ParseFromArray(bytes, static_cast<int>(size));
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<const Signature*> Find(const PredictTarget& target) {
    if (!target.has_model_spec) return absl::InvalidArgumentError("Missing ModelSpec");
    TFIPU_RETURN_IF_ERROR(FindServable(target.model));
    TFIPU_ASSIGN_OR_RETURN(
        const Signature* const signature,
        FindPredictSignature(servable(), target.signature_name, services().inference.check_method_name));
    Found(signature);
    return signature;
  }

  std::vector<Tensor> results_;
};

// Classify, Regress and MultiInference: whole messages, on an arena.
template <typename Request, typename Response>
class ExamplesRpc : public RpcInferenceCall {
 public:
  using RpcInferenceCall::RpcInferenceCall;

 protected:
  // The tasks of the request.
  virtual const tensorflow::serving::ModelSpec& Spec(const Request& request) const = 0;
  virtual absl::StatusOr<std::vector<ExamplesTask>> Plan(const Request& request) = 0;
  virtual absl::Status Fill(std::size_t task, std::int64_t examples, const std::vector<Tensor>& outputs,
                            Response* response) = 0;
  virtual void Log(const Request& request, const Response& response) = 0;
  const std::vector<ExamplesTask>& tasks() const { return tasks_; }

  absl::Status Read() override {
    TFIPU_RETURN_IF_ERROR(ParseOrError(rpc()->request(), request_));
    rpc()->ReleaseRequest();
    TFIPU_RETURN_IF_ERROR(FindServable(ModelSpecFrom(Spec(*request_))));
    TFIPU_ASSIGN_OR_RETURN(tasks_, Plan(*request_));
    TFIPU_ASSIGN_OR_RETURN(const Tensor examples, ExamplesTensor(request_->input(), repeated()));
    count_ = examples.dim_size(0);
    for (const ExamplesTask& task : tasks_) parts().push_back({task.signature, {examples}, task.outputs});
    return absl::OkStatus();
  }

  absl::Status TakeResults(std::size_t part, std::vector<Tensor> results) override {
    return Fill(part, count_, results, response_);
  }

  absl::Status Write() override {
    set_examples(ExampleCount(request_->input()));
    if (log() != nullptr) Log(*request_, *response_);
    return WriteReply(rpc(), *response_);
  }

 private:
  google::protobuf::Arena arena_;
  Request* const request_ = google::protobuf::Arena::Create<Request>(&arena_);
  Response* const response_ = google::protobuf::Arena::Create<Response>(&arena_);
  std::vector<ExamplesTask> tasks_;
  std::int64_t count_ = 0;
};

class ClassifyRpc final : public ExamplesRpc<ClassificationRequest, ClassificationResponse> {
 public:
  using ExamplesRpc::ExamplesRpc;

 protected:
  const tensorflow::serving::ModelSpec& Spec(const ClassificationRequest& request) const override {
    return request.model_spec();
  }
  absl::StatusOr<std::vector<ExamplesTask>> Plan(const ClassificationRequest& request) override {
    if (auto found = FindSignature(servable(), request.model_spec().signature_name()); found.ok()) {
      Found(*found);
    }
    TFIPU_ASSIGN_OR_RETURN(ExamplesTask task, PlanClassify(servable(), request.model_spec().signature_name(),
                                                           services().inference));
    return std::vector<ExamplesTask>{std::move(task)};
  }
  absl::Status Fill(std::size_t task, std::int64_t examples, const std::vector<Tensor>& outputs,
                    ClassificationResponse* response) override {
    FillModelSpec(servable().id(), tasks()[task].signature->name, response->mutable_model_spec());
    return FillClassification(tasks()[task], examples, outputs, response->mutable_result());
  }
  void Log(const ClassificationRequest& request, const ClassificationResponse& response) override {
    *log()->mutable_classify_log()->mutable_request() = request;
    *log()->mutable_classify_log()->mutable_response() = response;
  }
};

class RegressRpc final : public ExamplesRpc<RegressionRequest, RegressionResponse> {
 public:
  using ExamplesRpc::ExamplesRpc;

 protected:
  const tensorflow::serving::ModelSpec& Spec(const RegressionRequest& request) const override {
    return request.model_spec();
  }
  absl::StatusOr<std::vector<ExamplesTask>> Plan(const RegressionRequest& request) override {
    if (auto found = FindSignature(servable(), request.model_spec().signature_name()); found.ok()) {
      Found(*found);
    }
    TFIPU_ASSIGN_OR_RETURN(ExamplesTask task, PlanRegress(servable(), request.model_spec().signature_name(),
                                                          services().inference));
    return std::vector<ExamplesTask>{std::move(task)};
  }
  absl::Status Fill(std::size_t task, std::int64_t examples, const std::vector<Tensor>& outputs,
                    RegressionResponse* response) override {
    FillModelSpec(servable().id(), tasks()[task].signature->name, response->mutable_model_spec());
    return FillRegression(tasks()[task], examples, outputs, response->mutable_result());
  }
  void Log(const RegressionRequest& request, const RegressionResponse& response) override {
    *log()->mutable_regress_log()->mutable_request() = request;
    *log()->mutable_regress_log()->mutable_response() = response;
  }
};

class MultiInferenceRpc final : public ExamplesRpc<MultiInferenceRequest, MultiInferenceResponse> {
 public:
  using ExamplesRpc::ExamplesRpc;

 protected:
  const tensorflow::serving::ModelSpec& Spec(const MultiInferenceRequest& request) const override {
    return request.tasks().empty() ? tensorflow::serving::ModelSpec::default_instance()
                                   : request.tasks(0).model_spec();
  }
  absl::StatusOr<std::vector<ExamplesTask>> Plan(const MultiInferenceRequest& request) override {
    return PlanMultiInference(servable(), request, services().inference);
  }
  absl::Status Fill(std::size_t task, std::int64_t examples, const std::vector<Tensor>& outputs,
                    MultiInferenceResponse* response) override {
    const ExamplesTask& ended = tasks()[task];
    auto* const result = response->add_results();
    TFIPU_RETURN_IF_ERROR(
        ended.classify ? FillClassification(ended, examples, outputs, result->mutable_classification_result())
                       : FillRegression(ended, examples, outputs, result->mutable_regression_result()));
    FillModelSpec(servable().id(), ended.signature->name, result->mutable_model_spec());
    return absl::OkStatus();
  }
  void Log(const MultiInferenceRequest& request, const MultiInferenceResponse& response) override {
    *log()->mutable_multi_inference_log()->mutable_request() = request;
    *log()->mutable_multi_inference_log()->mutable_response() = response;
  }
};

// Calls that come in one round of a transport's loop are started together, and then run.
void JoinRound(RpcCall* call) {
  if (compute::Round::Current() == nullptr && call->AtEndOfRound([] { compute::Round::Close(); })) {
    compute::Round::Open();
  }
}

template <typename Kind, typename... Arguments>
void Begin(RpcCall* call, Arguments&&... arguments) {
  JoinRound(call);
  const bool large = call->large();
  InferenceCall::Begin(std::make_unique<Kind>(std::forward<Arguments>(arguments)..., call), large);
}

}  // namespace

void BeginPredict(const InferenceServices& services, RpcCall* call) { Begin<PredictRpc>(call, services); }
void BeginClassify(const InferenceServices& services, RpcCall* call) {
  Begin<ClassifyRpc>(call, services, "Classify");
}
void BeginRegress(const InferenceServices& services, RpcCall* call) {
  Begin<RegressRpc>(call, services, "Regress");
}
void BeginMultiInference(const InferenceServices& services, RpcCall* call) {
  Begin<MultiInferenceRpc>(call, services, "MultiInference");
}

}  // namespace tfipu::serving
