#include "serving/rest/rest_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "serving/rest/test_signature.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using testing::HasSubstr;

// Signatures: "serving_default" doubles floats; "fails" fails as the input says; "predict", "classify",
// "regress" over examples.
class FakeServable final : public Servable {
 public:
  explicit FakeServable(ServableId id) : id_(std::move(id)) {
    Add(TestSignature("serving_default", {{"x", tensorflow::DT_FLOAT}}, {{"y", tensorflow::DT_FLOAT}}));
    Add(TestSignature("fails", {{"code", tensorflow::DT_INT32}}, {{"y", tensorflow::DT_FLOAT}}));
    Signature classify =
        TestSignature("classify", {{"inputs", tensorflow::DT_STRING}},
                      {{"classes", tensorflow::DT_STRING}, {"scores", tensorflow::DT_FLOAT}});
    classify.method_name = "tensorflow/serving/classify";
    Add(classify);
    Signature regress =
        TestSignature("regress", {{"inputs", tensorflow::DT_STRING}}, {{"outputs", tensorflow::DT_FLOAT}});
    regress.method_name = "tensorflow/serving/regress";
    Add(regress);
  }

  const ServableId& id() const override { return id_; }
  const std::map<std::string, Signature, std::less<>>& signatures() const override { return signatures_; }
  void Start(ServableCall call, CallDone done) const override {
    compute::ComputeQueue* const compute = call.context.compute;
    auto run = [this, call = std::move(call), done = std::move(done)]() mutable {
      std::vector<Tensor> results;
      absl::Status status = CheckWanted(call.context);
      if (status.ok()) status = Double(*call.signature, call.inputs, call.outputs, call.context, &results);
      done(std::move(status), std::move(results));
    };
    if (expected_short) return run();
    EXPECT_TRUE(compute->Run(false, std::move(run)).ok());
  }

  bool expected_short = true;
  mutable std::thread::id ran_in;
  mutable absl::Time deadline;
  mutable bool high_priority = false;

 private:
  absl::Status Double(const Signature& signature, const std::vector<Tensor>& inputs,
                      absl::Span<const int> outputs, const CallContext& context,
                      std::vector<Tensor>* results) const {
    ran_in = std::this_thread::get_id();
    deadline = context.deadline;
    high_priority = context.high_priority;
    const std::int64_t rows = inputs[0].dims() == 0 ? 1 : inputs[0].dim_size(0);
    if (signature.name == "fails") {
      return absl::Status(static_cast<absl::StatusCode>(inputs[0].flat<std::int32_t>()(0)), "as you wish");
    }
    for (const int output : outputs) {
      const SignatureTensor& wanted = signature.outputs[output];
      if (signature.name == "serving_default") {
        Tensor y(tensorflow::DT_FLOAT, inputs[0].shape());
        for (int i = 0; i < y.NumElements(); ++i) y.flat<float>()(i) = inputs[0].flat<float>()(i) * 2;
        results->push_back(y);
      } else if (wanted.dtype == tensorflow::DT_STRING) {
        Tensor classes(tensorflow::DT_STRING, tensorflow::TensorShape({rows, 1}));
        for (int i = 0; i < rows; ++i) classes.flat<tensorflow::tstring>()(i) = absl::StrCat("class", i);
        results->push_back(classes);
      } else {
        Tensor scores(tensorflow::DT_FLOAT, tensorflow::TensorShape({rows, 1}));
        for (int i = 0; i < rows; ++i) scores.flat<float>()(i) = static_cast<float>(i) + 0.5f;
        results->push_back(scores);
      }
    }
    return absl::OkStatus();
  }

  void Add(Signature signature) { signatures_.emplace(signature.name, signature); }

  const ServableId id_;
  std::map<std::string, Signature, std::less<>> signatures_;
};

class FakeDirectory final : public ServableDirectory {
 public:
  absl::StatusOr<std::shared_ptr<const Servable>> Find(const ModelSpec& spec) const override {
    if (spec.name != "m" || spec.version.value_or(3) != 3)
      return absl::NotFoundError("Servable not found for request: ...");
    if (!spec.label.empty() && spec.label != "stable") {
      return absl::InvalidArgumentError("Unrecognized servable version label: " + spec.label);
    }
    return servable;
  }
  absl::StatusOr<std::vector<ServableState>> States(const ModelSpec& spec) const override {
    if (spec.name != "m") return absl::NotFoundError("Could not find any versions of model " + spec.name);
    return std::vector<ServableState>{
        {{"m", 3}, ServableStage::kAvailable, absl::OkStatus()},
        {{"m", 2}, ServableStage::kEnd, absl::InvalidArgumentError("said \"no\"")},
    };
  }
  std::vector<ServableState> AllStates() const override { return {}; }

  std::shared_ptr<FakeServable> servable = std::make_shared<FakeServable>(ServableId{"m", 3});
};

class FakeExchange final : public HttpExchange {
 public:
  FakeExchange(std::string method, std::string target, std::string body)
      : method_(std::move(method)), target_(std::move(target)), body_(std::move(body)) {}

  std::string_view method() const override { return method_; }
  std::string_view target() const override { return target_; }
  std::string_view header(std::string_view name) const override {
    return name == "x-priority" ? std::string_view(priority) : name == "Origin" ? origin : std::string_view();
  }
  std::string_view body() const override { return body_; }
  bool cancelled() const override { return gone; }
  void Respond(int with_status, std::vector<std::pair<std::string, std::string>> with_headers,
               std::string with_body) override {
    std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_EQ(status, 0) << "answered twice";
    status = with_status;
    for (auto& [name, value] : with_headers) headers[name] = value;
    answer = std::move(with_body);
    answered_.notify_all();
  }

  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    answered_.wait(lock, [this] { return status != 0; });
  }

  std::string priority;
  std::string_view origin;
  bool gone = false;
  int status = 0;
  std::map<std::string, std::string> headers;
  std::string answer;

 private:
  const std::string method_, target_, body_;
  std::mutex mutex_;
  std::condition_variable answered_;
};

class RecordingObserver final : public CallObserver {
 public:
  void Finished(const CallRecord& call) override {
    records.push_back(absl::StrCat(std::string(call.model), " ", std::string(call.api), " ",
                                   std::string(call.entrypoint), " ",
                                   absl::StatusCodeToString(call.status.code())));
  }
  bool WantsLog(const ServableId&) override { return true; }
  void Log(const ServableId& servable, std::unique_ptr<tensorflow::serving::PredictionLog> log) override {
    logs.push_back(std::move(log));
  }

  std::vector<std::string> records;
  std::vector<std::unique_ptr<tensorflow::serving::PredictionLog>> logs;
};

class RestHandlerTest : public testing::Test {
 protected:
  std::unique_ptr<FakeExchange> Ask(const std::string& method, const std::string& target,
                                    const std::string& body = "", bool gone = false,
                                    const std::string& priority = "") {
    if (handler_ == nullptr) handler_ = std::make_unique<RestHandler>(&directory_, &compute_, options_);
    auto exchange = std::make_unique<FakeExchange>(method, target, body);
    exchange->gone = gone;
    exchange->priority = priority;
    handler_->Handle(exchange.get());
    exchange->Wait();
    return exchange;
  }
  std::string AskFor(const std::string& method, const std::string& target, const std::string& body = "") {
    const auto exchange = Ask(method, target, body);
    return absl::StrCat(exchange->status, " ", exchange->answer);
  }

  FakeDirectory directory_;
  compute::ComputeSlots slots_{{2}};
  compute::ComputeQueue compute_{&slots_, 2, 10};
  RestOptions options_;
  std::unique_ptr<RestHandler> handler_;
};

TEST_F(RestHandlerTest, Predict) {
  EXPECT_EQ(AskFor("POST", "/v1/models/m:predict", R"({"instances": [1, 2.5]})"),
            R"(200 {"predictions": [2.0, 5.0]})");
  EXPECT_EQ(AskFor("POST", "/v1/models/m/versions/3:predict", R"({"inputs": {"x": [[1]]}})"),
            R"(200 {"outputs": [[2.0]]})");
  EXPECT_EQ(AskFor("POST", "/v1/models/m/labels/stable:predict?x=1", R"({"inputs": 4})"),
            R"(200 {"outputs": 8.0})");
  EXPECT_EQ(Ask("POST", "/v1/models/m:predict", R"({"instances": [1]})")->headers["Content-Type"],
            "application/json");
}

TEST_F(RestHandlerTest, ErrorsAreJson) {
  const std::vector<std::tuple<std::string, std::string, std::string, int>> cases = {
      {"POST", "/v1/models/m:predict", "", 400},
      {"POST", "/v1/models/m:predict", R"({"signature_name": "no", "instances": [1]})", 400},
      {"POST", "/v1/models/none:predict", R"({"instances": [1]})", 404},
      {"POST", "/v1/models/none:predict", "{}", 404},
      {"POST", "/v1/models/none:predict", R"({"instances": [1})", 400},
      {"POST", "/v1/models/none:classify", R"({"examples": [{}]})", 404},
      {"POST", "/v1/models/none:regress", "{}", 400},
      {"POST", "/v1/models/m:PREDICT", R"({"instances": [1]})", 400},
      {"POST", "/v1/models/m/versions/7:predict", R"({"instances": [1]})", 404},
      {"POST", "/v1/models/m/labels/none:predict", R"({"instances": [1]})", 400},
      {"POST", "/v1/models/m/versions/x:predict", R"({"instances": [1]})", 400},
      {"POST", "/v1/models/m:frobnicate", R"({"instances": [1]})", 400},
      {"GET", "/v1/models/m:predict", "", 405},
      {"POST", "/v1/models/m", "{}", 405},
      {"PUT", "/v1/models/m/metadata", "{}", 405},
      {"OPTIONS", "/v1/models/m:predict", "", 405},
      {"GET", "/v1/models", "", 400},
      {"GET", "/v1/models/none", "", 404},
      {"GET", "/v1/models/none/metadata", "", 404},
      {"GET", "/", "", 404},
      {"GET", "/metrics", "", 404},
  };
  for (const auto& [method, target, body, status] : cases) {
    const auto exchange = Ask(method, target, body);
    EXPECT_EQ(exchange->status, status) << method << " " << target;
    EXPECT_THAT(exchange->answer, HasSubstr("{\"error\": \"")) << method << " " << target;
    EXPECT_EQ(exchange->headers["Content-Type"], "application/json");
  }
  EXPECT_EQ(Ask("GET", "/v1/models/m:predict")->headers["Allow"], "POST");
  EXPECT_EQ(Ask("DELETE", "/v1/models/m")->headers["Allow"], "GET");
}

TEST_F(RestHandlerTest, StatusCodes) {
  const std::map<int, int> expected = {{1, 499},  {2, 500},  {3, 400},  {4, 504},  {5, 404},  {6, 409},
                                       {7, 403},  {8, 503},  {9, 400},  {10, 409}, {11, 400}, {12, 501},
                                       {13, 500}, {14, 503}, {15, 500}, {16, 401}};
  for (const auto& [code, status] : expected) {
    EXPECT_EQ(AskFor("POST", "/v1/models/m:predict",
                     absl::StrCat(R"({"signature_name": "fails", "inputs": )", code, "}")),
              absl::StrCat(status, " {\"error\": \"as you wish\"}"));
  }
}

TEST_F(RestHandlerTest, ClientsAreToldToComeAgain) {
  const auto fail = [this](int code) {
    return Ask("POST", "/v1/models/m:predict",
               absl::StrCat(R"({"signature_name": "fails", "inputs": )", code, "}"));
  };
  EXPECT_EQ(fail(static_cast<int>(absl::StatusCode::kResourceExhausted))->headers["Retry-After"], "1");
  EXPECT_EQ(fail(static_cast<int>(absl::StatusCode::kUnavailable))->headers["Retry-After"], "1");
  EXPECT_EQ(fail(static_cast<int>(absl::StatusCode::kInternal))->headers.count("Retry-After"), 0);
}

TEST_F(RestHandlerTest, HeaderSaysWhatGoesFirst) {
  const std::string body = R"({"instances": [1]})";
  for (const auto& [value, high] :
       std::map<std::string, bool>{{"", false}, {"normal", false}, {"high", true}}) {
    EXPECT_EQ(Ask("POST", "/v1/models/m:predict", body, false, value)->status, 200) << value;
    EXPECT_EQ(directory_.servable->high_priority, high) << value;
  }
  const auto refused = Ask("POST", "/v1/models/m:predict", body, false, "urgent");
  EXPECT_EQ(refused->status, 400);
  EXPECT_THAT(refused->answer, HasSubstr(R"(found \"urgent\", expected \"high\" or \"normal\")"));
}

TEST_F(RestHandlerTest, ModelStatus) {
  const auto exchange = Ask("GET", "/v1/models/m");
  EXPECT_EQ(exchange->status, 200);
  EXPECT_EQ(exchange->answer, R"({
 "model_version_status": [
  {
   "version": "3",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  },
  {
   "version": "2",
   "state": "END",
   "status": {
    "error_code": "INVALID_ARGUMENT",
    "error_message": "said \"no\""
   }
  }
 ]
}
)");
  EXPECT_EQ(Ask("HEAD", "/v1/models/m")->status, 200);
}

TEST_F(RestHandlerTest, Metadata) {
  const auto exchange = Ask("GET", "/v1/models/m/metadata");
  EXPECT_EQ(exchange->status, 200);
  for (const char* part : {"\"version\": \"3\"", "\"name\": \"m\"", "\"serving_default\": {",
                           "\"dtype\": \"DT_FLOAT\"", "\"size\": \"-1\"", "\"unknown_rank\": false",
                           "\"method_name\": \"tensorflow/serving/predict\"", "\"defaults\": {}"}) {
    EXPECT_THAT(exchange->answer, HasSubstr(part));
  }
}

TEST_F(RestHandlerTest, ClassifyAndRegress) {
  EXPECT_EQ(AskFor("POST", "/v1/models/m:classify",
                   R"({"signature_name": "classify", "examples": [{"a": 1}, {"a": 2}]})"),
            R"(200 {"results": [[["class0", 0.5]], [["class1", 1.5]]]})");
  EXPECT_EQ(AskFor("POST", "/v1/models/m:regress",
                   R"({"signature_name": "regress", "examples": [{"a": 1}, {"a": 2}]})"),
            R"(200 {"results": [0.5, 1.5]})");
  EXPECT_EQ(Ask("POST", "/v1/models/m:regress", R"({"signature_name": "regress", "examples": []})")->status,
            400);
  EXPECT_EQ(Ask("POST", "/v1/models/m:regress", R"({"signature_name": "none", "examples": [{}]})")->status,
            400);
  EXPECT_EQ(Ask("POST", "/v1/models/m:classify", R"({"examples": [{}]})")->status, 400);
}

TEST_F(RestHandlerTest, LongCallsLeaveTheThread) {
  Ask("POST", "/v1/models/m:predict", R"({"instances": [1]})");
  EXPECT_EQ(directory_.servable->ran_in, std::this_thread::get_id());
  directory_.servable->expected_short = false;
  Ask("POST", "/v1/models/m:predict", R"({"instances": [1]})");
  EXPECT_NE(directory_.servable->ran_in, std::this_thread::get_id());
}

TEST_F(RestHandlerTest, LargeBodiesLeaveTheThread) {
  Ask("POST", "/v1/models/m:predict", R"({"instances": [1)" + std::string(64 << 10, ' ') + "]}");
  EXPECT_NE(directory_.servable->ran_in, std::this_thread::get_id());
}

TEST_F(RestHandlerTest, TimeoutIsTheDeadline) {
  options_.timeout = absl::Seconds(100);
  const absl::Time before = absl::Now();
  Ask("POST", "/v1/models/m:predict", R"({"instances": [1]})");
  EXPECT_GE(directory_.servable->deadline, before + absl::Seconds(100));
  EXPECT_LE(directory_.servable->deadline, absl::Now() + absl::Seconds(100));
}

TEST_F(RestHandlerTest, TimedOutAndAbandonedCallsDoNotRun) {
  EXPECT_EQ(Ask("POST", "/v1/models/m:predict", R"({"instances": [1]})", true)->status, 499);
  options_.timeout = absl::ZeroDuration();
  handler_.reset();
  EXPECT_EQ(Ask("POST", "/v1/models/m:predict", R"({"instances": [1]})")->status, 504);
  EXPECT_EQ(directory_.servable->ran_in, std::thread::id());
}

// As in TensorFlow Serving, a preflight request is answered; that it is allowed says the answer's header, or
// not.
TEST_F(RestHandlerTest, PreflightWithoutCors) {
  const auto preflight = [this](const char* target, std::string_view origin) {
    RestHandler handler(&directory_, &compute_, options_);
    FakeExchange exchange("OPTIONS", target, "");
    exchange.origin = origin;
    handler.Handle(&exchange);
    exchange.Wait();
    EXPECT_EQ(exchange.headers.count("Access-Control-Allow-Origin"), 0);
    return exchange.status;
  };
  EXPECT_EQ(preflight("/v1/models/m:predict", "http://elsewhere"), 200);
  EXPECT_EQ(preflight("/v1/models/m", "https://elsewhere"), 200);
  EXPECT_EQ(preflight("/v1/models/m:predict", ""), 405);
  EXPECT_EQ(preflight("/v1/models/m:predict", "null"), 405);
  EXPECT_EQ(preflight("/elsewhere", "http://elsewhere"), 404);
}

TEST_F(RestHandlerTest, Cors) {
  options_.enable_cors = true;
  auto exchange = Ask("OPTIONS", "/v1/models/m:predict");
  EXPECT_EQ(exchange->status, 200);
  EXPECT_EQ(exchange->headers["Access-Control-Allow-Origin"], "*");
  EXPECT_EQ(exchange->headers["Access-Control-Allow-Methods"], "POST, GET");
  EXPECT_THAT(exchange->headers["Access-Control-Allow-Headers"], HasSubstr("Content-Type"));
  EXPECT_EQ(Ask("GET", "/v1/models/m")->headers["Access-Control-Allow-Origin"], "*");
  EXPECT_EQ(Ask("GET", "/v1/models/none")->headers["Access-Control-Allow-Origin"], "*");
  options_.enable_cors = false;
  handler_.reset();
  EXPECT_EQ(Ask("GET", "/v1/models/m")->headers.count("Access-Control-Allow-Origin"), 0);
}

TEST_F(RestHandlerTest, Pages) {
  options_.pages["/monitoring/prometheus/metrics"] = {"text/plain", [] { return std::string("metric 1\n"); }};
  const auto exchange = Ask("GET", "/monitoring/prometheus/metrics?x=y");
  EXPECT_EQ(exchange->status, 200);
  EXPECT_EQ(exchange->answer, "metric 1\n");
  EXPECT_EQ(exchange->headers["Content-Type"], "text/plain");
  EXPECT_EQ(Ask("POST", "/monitoring/prometheus/metrics")->status, 405);
}

TEST_F(RestHandlerTest, TellsTheObserver) {
  RecordingObserver observer;
  options_.observer = &observer;
  Ask("POST", "/v1/models/m:predict", R"({"instances": [1]})");
  Ask("POST", "/v1/models/m:predict", "x");
  Ask("POST", "/v1/models/none:classify", R"({"examples": [{}]})");
  Ask("POST", "/v1/models/m:regress", R"({"signature_name": "regress", "examples": [{"a": 1}]})");
  Ask("GET", "/v1/models/m");
  EXPECT_THAT(observer.records, testing::ElementsAre("m Predict REST OK", "m Predict REST INVALID_ARGUMENT",
                                                     "none Classify REST NOT_FOUND", "m Regress REST OK"));
  ASSERT_EQ(observer.logs.size(), 2);
  const auto& predict = observer.logs[0]->predict_log();
  EXPECT_EQ(predict.request().model_spec().name(), "m");
  EXPECT_EQ(predict.request().inputs().at("x").float_val_size() +
                predict.request().inputs().at("x").tensor_content().size(),
            4);
  EXPECT_EQ(predict.response().outputs().count("y"), 1);
  EXPECT_EQ(observer.logs[1]->regress_log().response().result().regressions_size(), 1);
}

}  // namespace
}  // namespace tfipu::serving
