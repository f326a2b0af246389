#include "serving/rest/rest_handler.h"

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "serving/api/call_priority.h"
#include "serving/api/error_text.h"
#include "serving/api/example_input.h"
#include "serving/api/model_spec.h"
#include "serving/api/signature_call.h"
#include "serving/json/writer.h"
#include "serving/rest/example_json.h"
#include "serving/rest/model_json.h"
#include "serving/rest/predict_json.h"
#include "serving/rest/predict_reply_json.h"
#include "serving/rest/rest_route.h"
#include "serving/servables/servable.h"
#include "tensorflow_serving/apis/prediction_log.pb.h"

namespace tfipu::serving {
namespace {

using tensorflow::serving::PredictionLog;

using Headers = std::vector<std::pair<std::string, std::string>>;

constexpr char kJson[] = "application/json";
constexpr int kMethodNotAllowed = 405;
constexpr int kServiceUnavailable = 503;
// Queues that are full now are not a second later, unless the load stays.
constexpr char kRetryAfterSeconds[] = "1";

int HttpStatus(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
      return kServiceUnavailable;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

// As TensorFlow Serving answers it, whether or not it then lets other origins call.
bool IsPreflight(const HttpExchange& exchange, absl::string_view path) {
  const absl::string_view origin = exchange.header("Origin");
  return absl::StartsWithIgnoreCase(path, "/v1/") &&
         (absl::StrContains(origin, "http://") || absl::StrContains(origin, "https://"));
}

}  // namespace

class RestHandler::Impl {
 public:
  Impl(const ServableDirectory* directory, CallPool* pool, RestOptions options)
      : directory_(directory), pool_(pool), options_(std::move(options)) {}

  void Handle(HttpExchange* exchange);

 private:
  // An inference call from its request's arrival to its answer.
  struct Call {
    HttpExchange* exchange = nullptr;
    RestCall api = RestCall::kPredict;
    std::string model;
    std::shared_ptr<const Servable> servable;
    absl::Status not_found;  // why there is no servable
    CallContext context;
    std::int64_t started_ns = 0;
    std::int64_t run_ns = 0;
    int example_count = 0;
    std::unique_ptr<PredictionLog> log;
    const Signature* signature = nullptr;
    // Predict
    PredictJsonRequest predict;
    // Classify, Regress
    std::string signature_name;
    tensorflow::serving::Input examples;
  };

  void Infer(HttpExchange* exchange, RestRoute route);
  void ParseAndRun(Call call, bool on_pool);
  absl::Status Parse(Call* call, bool* expected_short);
  void Run(Call* call);
  absl::Status RunPredict(Call* call, std::string* body);
  template <class Request, class Response, class Function>
  absl::Status RunExamples(Call* call, Function function, Request* request, Response* response);
  void LogPredict(Call* call, const std::vector<tensorflow::Tensor>& results);

  void Finish(Call* call, const absl::Status& status, std::string body);
  void Answer(HttpExchange* exchange, int status, absl::string_view content_type, std::string body) const;
  void AnswerError(HttpExchange* exchange, const absl::Status& status) const {
    Answer(exchange, HttpStatus(status), kJson, json::ErrorObject(ErrorText(status.message())));
  }
  void AnswerMethodNotAllowed(HttpExchange* exchange, absl::string_view allowed) const;

  const ServableDirectory* const directory_;
  CallPool* const pool_;
  const RestOptions options_;
};

void RestHandler::Impl::Answer(HttpExchange* exchange, int status, absl::string_view content_type,
                               std::string body) const {
  Headers headers;
  headers.reserve(options_.enable_cors ? 4 : 1);
  headers.emplace_back("Content-Type", std::string(content_type));
  if (options_.enable_cors) {
    headers.emplace_back("Access-Control-Allow-Origin", "*");
    headers.emplace_back("Access-Control-Allow-Methods", "POST, GET");
    headers.emplace_back("Access-Control-Allow-Headers",
                         absl::StrCat("Authorization, Content-Type, ", kPriorityField));
  }
  if (status == kServiceUnavailable) headers.emplace_back("Retry-After", kRetryAfterSeconds);
  exchange->Respond(status, std::move(headers), std::move(body));
}

void RestHandler::Impl::AnswerMethodNotAllowed(HttpExchange* exchange, absl::string_view allowed) const {
  Headers headers;
  headers.emplace_back("Content-Type", kJson);
  headers.emplace_back("Allow", std::string(allowed));
  std::string body = json::ErrorObject(ErrorText(absl::StrCat("Malformed request, expected method ", allowed,
                                                              ": ", absl::string_view(exchange->method()),
                                                              " ", absl::string_view(exchange->target()))));
  exchange->Respond(kMethodNotAllowed, std::move(headers), std::move(body));
}

void RestHandler::Impl::Handle(HttpExchange* exchange) {
  const std::string_view method = exchange->method();
  const absl::string_view path = PathOf(exchange->target());
  const bool get = method == "GET" || method == "HEAD";
  if (method == "OPTIONS" && (options_.enable_cors || IsPreflight(*exchange, path))) {
    return Answer(exchange, 200, kJson, "");
  }
  if (!options_.pages.empty()) {
    const auto page = options_.pages.find(path);
    if (page != options_.pages.end()) {
      if (!get) return AnswerMethodNotAllowed(exchange, "GET");
      return Answer(exchange, 200, page->second.content_type, page->second.body());
    }
  }
  RestRoute route;
  if (absl::Status status = ParseRoute(path, &route); !status.ok()) return AnswerError(exchange, status);
  switch (route.call) {
    case RestCall::kStatus: {
      if (!get) return AnswerMethodNotAllowed(exchange, "GET");
      auto states = directory_->States(route.model);
      if (!states.ok()) return AnswerError(exchange, states.status());
      return Answer(exchange, 200, kJson, ModelStatusJson(*states));
    }
    case RestCall::kMetadata: {
      if (!get) return AnswerMethodNotAllowed(exchange, "GET");
      auto servable = directory_->Find(route.model);
      if (!servable.ok()) return AnswerError(exchange, servable.status());
      auto json = ModelMetadataJson(**servable);
      if (!json.ok()) return AnswerError(exchange, json.status());
      return Answer(exchange, 200, kJson, *std::move(json));
    }
    case RestCall::kStatistics: {
      if (!options_.statistics)
        return AnswerError(exchange, absl::NotFoundError(absl::StrCat("Not found: ", path)));
      if (!get) return AnswerMethodNotAllowed(exchange, "GET");
      auto servable = directory_->Find(route.model);
      if (!servable.ok()) return AnswerError(exchange, servable.status());
      return Answer(exchange, 200, kJson, options_.statistics(**servable));
    }
    case RestCall::kPredict:
    case RestCall::kClassify:
    case RestCall::kRegress:
      if (method != "POST") return AnswerMethodNotAllowed(exchange, "POST");
      return Infer(exchange, std::move(route));
  }
}

void RestHandler::Impl::Infer(HttpExchange* exchange, RestRoute route) {
  Call call;
  call.exchange = exchange;
  call.api = route.call;
  call.started_ns = absl::GetCurrentTimeNanos();
  call.context.deadline = absl::FromUnixNanos(call.started_ns) + options_.timeout;
  call.context.cancelled = [exchange] { return exchange->cancelled(); };
  call.model = route.model.name;
  if (absl::Status status = SetPriority(exchange->header(kPriorityField), &call.context); !status.ok()) {
    return Finish(&call, status, "");
  }
  auto servable = directory_->Find(route.model);
  if (servable.ok()) {
    call.servable = *std::move(servable);
    if (options_.observer != nullptr && options_.observer->WantsLog(call.servable->id())) {
      call.log = std::make_unique<PredictionLog>();
    }
  } else {
    call.not_found = servable.status();
  }
  if (exchange->body().size() <= options_.max_inline_body_bytes) return ParseAndRun(std::move(call), false);
  auto shared = std::make_shared<Call>(std::move(call));
  absl::Status status = pool_->Run(false, [this, shared] { ParseAndRun(std::move(*shared), true); });
  if (!status.ok()) Finish(shared.get(), status, "");
}

void RestHandler::Impl::ParseAndRun(Call call, bool on_pool) {
  bool expected_short = false;
  if (absl::Status status = Parse(&call, &expected_short); !status.ok()) return Finish(&call, status, "");
  if (on_pool || expected_short) return Run(&call);
  auto shared = std::make_shared<Call>(std::move(call));
  absl::Status status = pool_->Run(false, [this, shared] { Run(shared.get()); });
  if (!status.ok()) Finish(shared.get(), status, "");
}

absl::Status RestHandler::Impl::Parse(Call* call, bool* expected_short) {
  const absl::string_view body = call->exchange->body();
  if (call->servable == nullptr) {
    // As in TensorFlow Serving, a body that is not a request for any model is told before the model is
    // missed.
    const absl::Status status =
        call->api == RestCall::kPredict
            ? CheckPredictJson(body, options_.max_json_depth)
            : ParseExamplesJson(body, options_.max_json_depth, &call->signature_name, &call->examples);
    return status.ok() ? call->not_found : status;
  }
  const Servable& servable = *call->servable;
  if (call->api == RestCall::kPredict) {
    const auto lookup = [&](absl::string_view name) {
      return FindPredictSignature(servable, name, options_.inference.check_method_name);
    };
    absl::Status status = ParsePredictJson(body, lookup, options_.max_json_depth, &call->predict);
    if (!status.ok()) return status;
    call->signature = call->predict.signature;
    *expected_short = servable.ExpectedShort(*call->signature);
    return absl::OkStatus();
  }
  absl::Status status =
      ParseExamplesJson(body, options_.max_json_depth, &call->signature_name, &call->examples);
  if (!status.ok()) return status;
  auto signature = FindSignature(servable, call->signature_name);
  if (!signature.ok()) return signature.status();
  call->signature = *signature;
  *expected_short = servable.ExpectedShort(*call->signature);
  return absl::OkStatus();
}

void RestHandler::Impl::Run(Call* call) {
  std::string body;
  absl::Status status;
  if (call->context.cancelled()) {
    status = absl::CancelledError("The client closed the connection before the call was run");
  } else if (absl::Now() >= call->context.deadline) {
    status = absl::DeadlineExceededError("The timeout passed before the call was run");
  } else if (call->api == RestCall::kPredict) {
    status = RunPredict(call, &body);
  } else if (call->api == RestCall::kClassify) {
    tensorflow::serving::ClassificationRequest request;
    tensorflow::serving::ClassificationResponse response;
    status = RunExamples(call, Classify, &request, &response);
    if (status.ok()) WriteClassifyJson(response.result(), &body);
    if (status.ok() && call->log != nullptr) {
      *call->log->mutable_classify_log()->mutable_request() = std::move(request);
      *call->log->mutable_classify_log()->mutable_response() = std::move(response);
    }
  } else {
    tensorflow::serving::RegressionRequest request;
    tensorflow::serving::RegressionResponse response;
    status = RunExamples(call, Regress, &request, &response);
    if (status.ok()) WriteRegressJson(response.result(), &body);
    if (status.ok() && call->log != nullptr) {
      *call->log->mutable_regress_log()->mutable_request() = std::move(request);
      *call->log->mutable_regress_log()->mutable_response() = std::move(response);
    }
  }
  Finish(call, status, std::move(body));
}

absl::Status RestHandler::Impl::RunPredict(Call* call, std::string* body) {
  const Signature& signature = *call->predict.signature;
  std::vector<int> wanted(signature.outputs.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] = static_cast<int>(i);
  std::vector<tensorflow::Tensor> results;
  const std::int64_t run_started_ns = absl::GetCurrentTimeNanos();
  absl::Status status = call->servable->Run(signature, call->predict.inputs, wanted, call->context, &results);
  call->run_ns = absl::GetCurrentTimeNanos() - run_started_ns;
  if (!status.ok()) return status;
  if (call->log != nullptr) LogPredict(call, results);
  return WritePredictJson(signature, call->predict.format, results, body);
}

template <class Request, class Response, class Function>
absl::Status RestHandler::Impl::RunExamples(Call* call, Function function, Request* request,
                                            Response* response) {
  FillModelSpec(call->servable->id(), call->signature_name, request->mutable_model_spec());
  *request->mutable_input() = std::move(call->examples);
  call->example_count = ExampleCount(request->input());
  const std::int64_t run_started_ns = absl::GetCurrentTimeNanos();
  absl::Status status = function(*call->servable, *request, options_.inference, call->context, response);
  call->run_ns = absl::GetCurrentTimeNanos() - run_started_ns;
  return status;
}

void RestHandler::Impl::LogPredict(Call* call, const std::vector<tensorflow::Tensor>& results) {
  const Signature& signature = *call->predict.signature;
  auto* log = call->log->mutable_predict_log();
  FillModelSpec(call->servable->id(), signature.name, log->mutable_request()->mutable_model_spec());
  FillModelSpec(call->servable->id(), signature.name, log->mutable_response()->mutable_model_spec());
  for (std::size_t i = 0; i < call->predict.inputs.size(); ++i) {
    call->predict.inputs[i].AsProtoTensorContent(
        &(*log->mutable_request()->mutable_inputs())[signature.inputs[i].alias]);
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    results[i].AsProtoTensorContent(
        &(*log->mutable_response()->mutable_outputs())[signature.outputs[i].alias]);
  }
}

void RestHandler::Impl::Finish(Call* call, const absl::Status& status, std::string body) {
  if (options_.observer != nullptr) {
    CallRecord record;
    record.model = call->model;
    record.api = call->api == RestCall::kPredict    ? "Predict"
                 : call->api == RestCall::kClassify ? "Classify"
                                                    : "Regress";
    record.entrypoint = "REST";
    record.signature = call->signature;
    record.status = status;
    record.latency = absl::Nanoseconds(absl::GetCurrentTimeNanos() - call->started_ns);
    record.runtime = absl::Nanoseconds(call->run_ns);
    record.examples = status.ok() ? call->example_count : 0;
    options_.observer->Finished(record);
    if (call->log != nullptr && status.ok())
      options_.observer->Log(call->servable->id(), std::move(call->log));
  }
  if (status.ok()) {
    Answer(call->exchange, 200, kJson, std::move(body));
  } else {
    AnswerError(call->exchange, status);
  }
}

RestHandler::RestHandler(const ServableDirectory* directory, CallPool* pool, RestOptions options)
    : impl_(std::make_unique<Impl>(directory, pool, std::move(options))) {}

RestHandler::~RestHandler() = default;

void RestHandler::Handle(HttpExchange* exchange) { impl_->Handle(exchange); }

}  // namespace tfipu::serving
