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
#include "serving/api/call_priority.h"
#include "serving/api/error_text.h"
#include "serving/json/writer.h"
#include "serving/rest/model_json.h"
#include "serving/rest/rest_inference.h"
#include "serving/rest/rest_route.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {
namespace {

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
  Impl(const ServableDirectory* directory, compute::ComputeQueue* compute, RestOptions options)
      : directory_(directory), options_(std::move(options)) {
    inference_.services = {directory, compute, options_.observer, options_.inference};
    inference_.timeout = options_.timeout;
    inference_.max_json_depth = options_.max_json_depth;
    inference_.answer = [this](HttpExchange* exchange, std::string body) {
      Answer(exchange, 200, kJson, std::move(body));
    };
    inference_.answer_error = [this](HttpExchange* exchange, const absl::Status& status) {
      AnswerError(exchange, status);
    };
  }

  void Handle(HttpExchange* exchange);

 private:
  void Answer(HttpExchange* exchange, int status, absl::string_view content_type, std::string body) const;
  void AnswerError(HttpExchange* exchange, const absl::Status& status) const {
    Answer(exchange, HttpStatus(status), kJson, json::ErrorObject(ErrorText(status.message())));
  }
  void AnswerMethodNotAllowed(HttpExchange* exchange, absl::string_view allowed) const;

  const ServableDirectory* const directory_;
  const RestOptions options_;
  RestInferenceOptions inference_;
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
      return BeginRestInference(inference_, std::move(route), exchange);
  }
}

RestHandler::RestHandler(const ServableDirectory* directory, compute::ComputeQueue* compute,
                         RestOptions options)
    : impl_(std::make_unique<Impl>(directory, compute, std::move(options))) {}

RestHandler::~RestHandler() = default;

void RestHandler::Handle(HttpExchange* exchange) { impl_->Handle(exchange); }

}  // namespace tfipu::serving
