#include "serving/rest/rest_inference.h"

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "cc/base/status_macros.h"
#include "serving/api/call_priority.h"
#include "serving/api/example_input.h"
#include "serving/api/examples_plan.h"
#include "serving/api/model_spec.h"
#include "serving/api/signature_call.h"
#include "serving/compute/round.h"
#include "serving/rest/example_json.h"
#include "serving/rest/predict_json.h"
#include "serving/rest/predict_reply_json.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;

// What REST has in common.
class RestInferenceCall : public InferenceCall {
 public:
  RestInferenceCall(const RestInferenceOptions& options, const char* api, ModelSpec model,
                    HttpExchange* exchange)
      : InferenceCall(options.services, api, "REST", TermsOf(options, exchange)),
        options_(options),
        model_(std::move(model)),
        exchange_(exchange) {
    set_model(model_.name);
  }
  ~RestInferenceCall() override { AnswerIfNobodyDid(); }

 protected:
  absl::string_view priority() const override { return exchange_->header(kPriorityField); }
  void Answer(const absl::Status& status) override {
    if (status.ok()) {
      options_.answer(exchange_, std::move(reply_));
    } else {
      options_.answer_error(exchange_, status);
    }
  }

  // As in TensorFlow Serving, a body that is not a request for any model is told before the model is missed.
  virtual absl::Status CheckBody() = 0;
  absl::Status FindModel() {
    absl::Status found = FindServable(model_);
    if (!found.ok()) TFIPU_RETURN_IF_ERROR(CheckBody());
    return found;
  }

  absl::string_view body() const { return exchange_->body(); }
  void ReleaseBody() { exchange_->ReleaseBody(); }
  int max_json_depth() const { return options_.max_json_depth; }
  std::string* reply() { return &reply_; }

 private:
  static CallContext TermsOf(const RestInferenceOptions& options, HttpExchange* exchange) {
    CallContext terms;
    if (options.timeout != absl::InfiniteDuration()) terms.deadline = absl::Now() + options.timeout;
    terms.cancelled = [exchange] { return exchange->cancelled(); };
    return terms;
  }

  const RestInferenceOptions& options_;
  const ModelSpec model_;
  HttpExchange* const exchange_;
  std::string reply_;
};

class PredictRest final : public RestInferenceCall {
 public:
  PredictRest(const RestInferenceOptions& options, ModelSpec model, HttpExchange* exchange)
      : RestInferenceCall(options, "Predict", std::move(model), exchange) {}

 protected:
  absl::Status CheckBody() override { return CheckPredictJson(body(), max_json_depth()); }

  absl::Status Read() override {
    TFIPU_RETURN_IF_ERROR(FindModel());
    const auto lookup = [this](absl::string_view name) {
      return FindPredictSignature(servable(), name, services().inference.check_method_name);
    };
    PredictJsonRequest request;
    TFIPU_RETURN_IF_ERROR(ParsePredictJson(body(), lookup, max_json_depth(), &request));
    ReleaseBody();
    Found(request.signature);
    format_ = request.format;
    std::vector<int> outputs(request.signature->outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i] = static_cast<int>(i);
    if (log() != nullptr) LogRequest(request);
    parts().push_back({request.signature, std::move(request.inputs), std::move(outputs)});
    return absl::OkStatus();
  }

  absl::Status TakeResults(std::size_t, std::vector<Tensor> results) override {
    results_ = std::move(results);
    return absl::OkStatus();
  }

  absl::Status Write() override {
    if (log() != nullptr) {
      auto* const response = log()->mutable_predict_log()->mutable_response();
      FillModelSpec(servable().id(), signature()->name, response->mutable_model_spec());
      for (std::size_t i = 0; i < results_.size(); ++i) {
        results_[i].AsProtoTensorContent(&(*response->mutable_outputs())[signature()->outputs[i].alias]);
      }
    }
    return WritePredictJson(*signature(), format_, results_, reply());
  }

 private:
  void LogRequest(const PredictJsonRequest& request) {
    auto* const logged = log()->mutable_predict_log()->mutable_request();
    FillModelSpec(servable().id(), request.signature->name, logged->mutable_model_spec());
    for (std::size_t i = 0; i < request.inputs.size(); ++i) {
      request.inputs[i].AsProtoTensorContent(
          &(*logged->mutable_inputs())[request.signature->inputs[i].alias]);
    }
  }

  PredictFormat format_ = PredictFormat::kRows;
  std::vector<Tensor> results_;
};

// Classify and Regress.
template <typename Request, typename Response>
class ExamplesRest final : public RestInferenceCall {
 public:
  ExamplesRest(const RestInferenceOptions& options, const char* api, ModelSpec model, HttpExchange* exchange)
      : RestInferenceCall(options, api, std::move(model), exchange) {}

 protected:
  absl::Status CheckBody() override {
    std::string name;
    tensorflow::serving::Input examples;
    return ParseExamplesJson(body(), max_json_depth(), &name, &examples);
  }

  absl::Status Read() override {
    TFIPU_RETURN_IF_ERROR(FindModel());
    std::string name;
    TFIPU_RETURN_IF_ERROR(ParseExamplesJson(body(), max_json_depth(), &name, request_.mutable_input()));
    ReleaseBody();
    FillModelSpec(servable().id(), name, request_.mutable_model_spec());
    TFIPU_ASSIGN_OR_RETURN(const Signature* const signature, FindSignature(servable(), name));
    Found(signature);
    TFIPU_ASSIGN_OR_RETURN(task_, kClassify ? PlanClassify(servable(), name, services().inference)
                                            : PlanRegress(servable(), name, services().inference));
    TFIPU_ASSIGN_OR_RETURN(Tensor examples, ExamplesTensor(request_.input(), repeated()));
    count_ = examples.dim_size(0);
    parts().push_back({task_.signature, {std::move(examples)}, task_.outputs});
    return absl::OkStatus();
  }

  absl::Status TakeResults(std::size_t, std::vector<Tensor> results) override {
    FillModelSpec(servable().id(), task_.signature->name, response_.mutable_model_spec());
    if constexpr (kClassify) {
      return FillClassification(task_, count_, results, response_.mutable_result());
    } else {
      return FillRegression(task_, count_, results, response_.mutable_result());
    }
  }

  absl::Status Write() override {
    set_examples(ExampleCount(request_.input()));
    if constexpr (kClassify) {
      WriteClassifyJson(response_.result(), reply());
      if (log() != nullptr) Log(log()->mutable_classify_log());
    } else {
      WriteRegressJson(response_.result(), reply());
      if (log() != nullptr) Log(log()->mutable_regress_log());
    }
    return absl::OkStatus();
  }

 private:
  template <typename Entry>
  void Log(Entry* entry) {
    *entry->mutable_request() = std::move(request_);
    *entry->mutable_response() = std::move(response_);
  }

  static constexpr bool kClassify = std::is_same_v<Response, tensorflow::serving::ClassificationResponse>;

  Request request_;
  Response response_;
  ExamplesTask task_;
  std::int64_t count_ = 0;
};

using ClassifyRest =
    ExamplesRest<tensorflow::serving::ClassificationRequest, tensorflow::serving::ClassificationResponse>;
using RegressRest =
    ExamplesRest<tensorflow::serving::RegressionRequest, tensorflow::serving::RegressionResponse>;

}  // namespace

void BeginRestInference(const RestInferenceOptions& options, RestRoute route, HttpExchange* exchange) {
  // Calls that come in one round of a transport's loop are started together, and then run.
  if (compute::Round::Current() == nullptr && exchange->AtEndOfRound([] { compute::Round::Close(); })) {
    compute::Round::Open();
  }
  const bool large = exchange->large();
  std::unique_ptr<InferenceCall> call;
  switch (route.call) {
    case RestCall::kClassify:
      call = std::make_unique<ClassifyRest>(options, "Classify", std::move(route.model), exchange);
      break;
    case RestCall::kRegress:
      call = std::make_unique<RegressRest>(options, "Regress", std::move(route.model), exchange);
      break;
    default:
      call = std::make_unique<PredictRest>(options, std::move(route.model), exchange);
  }
  InferenceCall::Begin(std::move(call), large);
}

}  // namespace tfipu::serving
