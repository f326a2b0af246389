#include "serving/api/rpc_methods.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "absl/time/clock.h"
#include "serving/api/fake_servable.h"
#include "tensorflow/core/example/example.pb.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow_serving/apis/classification.pb.h"
#include "tensorflow_serving/apis/get_model_metadata.pb.h"
#include "tensorflow_serving/apis/get_model_status.pb.h"
#include "tensorflow_serving/apis/inference.pb.h"
#include "tensorflow_serving/apis/model_management.pb.h"
#include "tensorflow_serving/apis/predict.pb.h"
#include "tensorflow_serving/apis/regression.pb.h"
#include "xla/tsl/lib/monitoring/counter.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using testing::HasSubstr;
namespace ts = tensorflow::serving;

constexpr char kPrediction[] = "/tensorflow.serving.PredictionService/";
constexpr char kModel[] = "/tensorflow.serving.ModelService/";

Signature Empty(const char* name, const char* method) {
  Signature signature;
  signature.name = name;
  signature.method_name = method;
  return signature;
}
SignatureTensor Spec(const char* alias, tensorflow::DataType dtype) { return {alias, alias, dtype, {}, {}}; }

class Observer : public CallObserver {
 public:
  void Finished(const CallRecord& call) override {
    calls.push_back(std::string(call.api) + " " + std::string(call.model) + " " +
                    std::string(absl::StatusCodeToString(call.status.code())));
  }
  bool WantsLog(const ServableId&) override { return true; }
  void Log(const ServableId&, std::unique_ptr<ts::PredictionLog> log) override { logs.push_back(*log); }

  std::vector<std::string> calls;
  std::vector<ts::PredictionLog> logs;
};

class RpcMethodsTest : public testing::Test {
 protected:
  RpcMethodsTest() {
    servable_ = std::make_shared<FakeServable>(
        ServableId{"m", 5}, [this](const Signature& signature, const std::vector<Tensor>& inputs,
                                   absl::Span<const int> wanted, std::vector<Tensor>* results) {
          last_inputs_ = inputs;
          for (int output : wanted) results->push_back(outputs_.at(signature.outputs[output].alias));
          return run_status_;
        });
    Signature predict = Empty("serving_default", "tensorflow/serving/predict");
    predict.inputs = {Spec("a", tensorflow::DT_FLOAT), Spec("b", tensorflow::DT_FLOAT)};
    predict.inputs[1].default_value = Tensor(7.0f);
    predict.outputs = {Spec("y", tensorflow::DT_FLOAT), Spec("z", tensorflow::DT_FLOAT)};
    servable_->Add(predict);
    Signature classify = Empty("classify", "tensorflow/serving/classify");
    classify.inputs = {Spec("inputs", tensorflow::DT_STRING)};
    classify.outputs = {Spec("classes", tensorflow::DT_STRING), Spec("scores", tensorflow::DT_FLOAT)};
    servable_->Add(classify);
    Signature regress = Empty("regress", "tensorflow/serving/regress");
    regress.inputs = {Spec("inputs", tensorflow::DT_STRING)};
    regress.outputs = {Spec("outputs", tensorflow::DT_FLOAT)};
    servable_->Add(regress);

    outputs_["y"] = Tensor(1.0f);
    outputs_["z"] = Tensor(2.0f);
    Tensor classes(tensorflow::DT_STRING, {1, 2});
    classes.flat<tensorflow::tstring>()(0) = "no";
    classes.flat<tensorflow::tstring>()(1) = "yes";
    outputs_["classes"] = classes;
    Tensor scores(tensorflow::DT_FLOAT, {1, 2});
    scores.flat<float>().setValues({0.25f, 0.75f});
    outputs_["scores"] = scores;
    Tensor values(tensorflow::DT_FLOAT, {1, 1});
    values.flat<float>()(0) = 3.5f;
    outputs_["outputs"] = values;

    directory_ = std::make_unique<FakeDirectory>(servable_);
    services_.inference.directory = directory_.get();
    services_.inference.compute = &compute_;
    services_.inference.observer = &observer_;
    services_.background = &compute_;
  }

  void Call(const std::string& path, FakeCall* call) {
    for (const RpcMethod& method : ServingMethods(services_)) {
      if (method.path == path) return method.handle(call);
    }
    FAIL() << "no method " << path;
  }
  template <typename Response>
  Response Call(const std::string& path, const google::protobuf::Message& request) {
    FakeCall call(request.SerializeAsString());
    Call(path, &call);
    EXPECT_EQ(call.finishes, 1);
    last_ = call.status;
    Response response;
    if (call.status.code == 0) {
      EXPECT_TRUE(response.ParseFromString(call.reply));
    }
    return response;
  }

  static ts::PredictRequest PredictRequest() {
    ts::PredictRequest request;
    request.mutable_model_spec()->set_name("m");
    Tensor(4.0f).AsProtoField(&(*request.mutable_inputs())["a"]);
    return request;
  }
  template <typename Request>
  static Request ExampleRequest(const char* signature) {
    Request request;
    request.mutable_model_spec()->set_name("m");
    request.mutable_model_spec()->set_signature_name(signature);
    request.mutable_input()->mutable_example_list()->add_examples();
    return request;
  }

  compute::ComputeSlots slots_{{2}};
  compute::ComputeQueue compute_{&slots_, 2, 10};
  std::shared_ptr<FakeServable> servable_;
  std::unique_ptr<FakeDirectory> directory_;
  RpcServices services_;
  Observer observer_;
  std::map<std::string, Tensor> outputs_;
  absl::Status run_status_;
  std::vector<Tensor> last_inputs_;
  RpcStatus last_;
};

TEST_F(RpcMethodsTest, PredictFillsDefaultsAndEchoesTheModel) {
  auto response = Call<ts::PredictResponse>(std::string(kPrediction) + "Predict", PredictRequest());
  ASSERT_EQ(last_.code, 0) << last_.message;
  EXPECT_EQ(response.model_spec().name(), "m");
  EXPECT_EQ(response.model_spec().version().value(), 5);
  EXPECT_EQ(response.model_spec().signature_name(), "serving_default");
  EXPECT_EQ(response.outputs().at("y").float_val(0), 1.0f);
  EXPECT_EQ(response.outputs().at("z").float_val(0), 2.0f);
  EXPECT_EQ(last_inputs_[0].scalar<float>()(), 4.0f);
  EXPECT_EQ(last_inputs_[1].scalar<float>()(), 7.0f);
  EXPECT_THAT(observer_.calls, testing::ElementsAre("Predict m OK"));
  ASSERT_EQ(observer_.logs.size(), 1u);
  EXPECT_EQ(observer_.logs[0].predict_log().request().model_spec().name(), "m");
  EXPECT_EQ(observer_.logs[0].predict_log().response().outputs().at("z").float_val(0), 2.0f);
}

TEST_F(RpcMethodsTest, PredictFiltersOutputs) {
  auto request = PredictRequest();
  request.add_output_filter("z");
  auto response = Call<ts::PredictResponse>(std::string(kPrediction) + "Predict", request);
  ASSERT_EQ(response.outputs_size(), 1);
  EXPECT_EQ(response.outputs().at("z").float_val(0), 2.0f);
  request.add_output_filter("z");
  Call<ts::PredictResponse>(std::string(kPrediction) + "Predict", request);
  EXPECT_THAT(last_.message, HasSubstr("duplicate output tensor alias: z"));
  request.clear_output_filter();
  request.add_output_filter("nope");
  Call<ts::PredictResponse>(std::string(kPrediction) + "Predict", request);
  EXPECT_EQ(last_.code, 3);
  EXPECT_THAT(last_.message, HasSubstr("output tensor alias not found in signature: nope"));
}

TEST_F(RpcMethodsTest, PredictSaysWhatIsWrong) {
  const std::string path = std::string(kPrediction) + "Predict";
  auto expect = [&](const ts::PredictRequest& request, int code, const char* message) {
    Call<ts::PredictResponse>(path, request);
    EXPECT_EQ(last_.code, code) << message;
    EXPECT_THAT(last_.message, HasSubstr(message));
  };
  auto request = PredictRequest();
  request.clear_inputs();
  expect(request, 3, "Signature input alias: a(feed name: a) not found in request");
  request = PredictRequest();
  Tensor(4.0f).AsProtoField(&(*request.mutable_inputs())["c"]);
  expect(request, 3, "input tensor alias not found in signature: c");
  request = PredictRequest();
  Tensor(4.0).AsProtoField(&(*request.mutable_inputs())["a"]);
  expect(request, 3, "Input \"a\": expected to be float but double is provided");
  request = PredictRequest();
  request.mutable_model_spec()->set_signature_name("nope");
  expect(request, 9, "{classify,regress,serving_default}");
  request = PredictRequest();
  request.mutable_model_spec()->set_name("nope");
  expect(request, 5, "Servable not found");
  expect(ts::PredictRequest(), 3, "Missing ModelSpec");
  run_status_ = absl::UnavailableError("device is being reset");
  expect(PredictRequest(), 14, "device is being reset");

  FakeCall garbage("\xff\xff\xff");
  Call(path, &garbage);
  EXPECT_EQ(garbage.status.code, 13);
  FakeCall other_garbage("\xff\xff\xff");
  Call(std::string(kPrediction) + "Classify", &other_garbage);
  EXPECT_EQ(other_garbage.status.code, 13);
}

TEST_F(RpcMethodsTest, PredictRefusesOtherMethodNamesOnRequest) {
  services_.inference.inference.check_method_name = true;
  Signature odd = Empty("odd", "tensorflow/serving/other");
  servable_->Add(odd);
  ts::PredictRequest request;
  request.mutable_model_spec()->set_name("m");
  request.mutable_model_spec()->set_signature_name("odd");
  Call<ts::PredictResponse>(std::string(kPrediction) + "Predict", request);
  EXPECT_EQ(last_.code, 13);
  EXPECT_THAT(last_.message, HasSubstr("tensorflow/serving/other"));
}

TEST_F(RpcMethodsTest, PredictSendsContentOnRequest) {
  services_.inference.inference.tensor_content = true;
  auto response = Call<ts::PredictResponse>(std::string(kPrediction) + "Predict", PredictRequest());
  EXPECT_EQ(response.outputs().at("y").tensor_content().size(), 4u);
  EXPECT_EQ(response.outputs().at("y").float_val_size(), 0);
}

TEST_F(RpcMethodsTest, MetadataSaysWhatGoesFirst) {
  FakeCall call(PredictRequest().SerializeAsString());
  for (const auto& [value, high] :
       std::map<std::string, bool>{{"", false}, {"normal", false}, {"high", true}}) {
    call.priority = value;
    Call(std::string(kPrediction) + "Predict", &call);
    EXPECT_EQ(call.status.code, 0) << value;
    EXPECT_EQ(servable_->high_priority, high) << value;
  }
  call.priority = "urgent";
  Call(std::string(kPrediction) + "Predict", &call);
  FakeCall classify(ts::ClassificationRequest().SerializeAsString());
  classify.priority = "urgent";
  Call(std::string(kPrediction) + "Classify", &classify);
  for (const FakeCall* refused : {&call, &classify}) {
    EXPECT_EQ(refused->status.code, 3);
    EXPECT_THAT(refused->status.message, HasSubstr("found \"urgent\", expected \"high\" or \"normal\""));
  }
}

TEST_F(RpcMethodsTest, DeadCallsAreNotRun) {
  FakeCall late(PredictRequest().SerializeAsString());
  late.deadline = absl::ToUnixMicros(absl::Now() - absl::Seconds(1));
  Call(std::string(kPrediction) + "Predict", &late);
  EXPECT_EQ(late.status.code, 4);
  FakeCall gone(PredictRequest().SerializeAsString());
  gone.is_cancelled = true;
  Call(std::string(kPrediction) + "Predict", &gone);
  EXPECT_EQ(gone.status.code, 1);
  EXPECT_TRUE(last_inputs_.empty());
}

TEST_F(RpcMethodsTest, ClassifyRegressAndMultiInference) {
  auto classified = Call<ts::ClassificationResponse>(std::string(kPrediction) + "Classify",
                                                     ExampleRequest<ts::ClassificationRequest>("classify"));
  ASSERT_EQ(last_.code, 0) << last_.message;
  ASSERT_EQ(classified.result().classifications(0).classes_size(), 2);
  EXPECT_EQ(classified.result().classifications(0).classes(1).label(), "yes");
  EXPECT_EQ(classified.result().classifications(0).classes(1).score(), 0.75f);
  EXPECT_EQ(classified.model_spec().signature_name(), "classify");

  auto regressed = Call<ts::RegressionResponse>(std::string(kPrediction) + "Regress",
                                                ExampleRequest<ts::RegressionRequest>("regress"));
  ASSERT_EQ(last_.code, 0) << last_.message;
  EXPECT_EQ(regressed.result().regressions(0).value(), 3.5f);

  ts::MultiInferenceRequest multi;
  multi.mutable_input()->mutable_example_list()->add_examples();
  for (const char* signature : {"regress", "classify"}) {
    auto* task = multi.add_tasks();
    task->mutable_model_spec()->set_name("m");
    task->mutable_model_spec()->set_signature_name(signature);
    task->set_method_name(std::string("tensorflow/serving/") + signature);
  }
  auto both = Call<ts::MultiInferenceResponse>(std::string(kPrediction) + "MultiInference", multi);
  ASSERT_EQ(both.results_size(), 2);
  EXPECT_EQ(both.results(0).regression_result().regressions(0).value(), 3.5f);
  EXPECT_EQ(both.results(1).classification_result().classifications_size(), 1);
  EXPECT_EQ(both.results(1).model_spec().signature_name(), "classify");
  EXPECT_EQ(observer_.logs.size(), 3u);

  multi.mutable_tasks(1)->mutable_model_spec()->set_signature_name("regress");
  Call<ts::MultiInferenceResponse>(std::string(kPrediction) + "MultiInference", multi);
  EXPECT_EQ(last_.message, "Duplicate evaluation of signature: regress");
  multi.mutable_tasks(1)->mutable_model_spec()->set_signature_name("classify");
  multi.mutable_tasks(1)->mutable_model_spec()->set_name("other");
  Call<ts::MultiInferenceResponse>(std::string(kPrediction) + "MultiInference", multi);
  EXPECT_EQ(last_.code, 3);
}

TEST_F(RpcMethodsTest, SaysWhichSignaturesAreNotForExamples) {
  const auto add = [&](const char* name, std::vector<SignatureTensor> inputs,
                       std::vector<SignatureTensor> outputs) {
    Signature signature = Empty(name, "");
    signature.inputs = std::move(inputs);
    signature.outputs = std::move(outputs);
    servable_->Add(signature);
  };
  const SignatureTensor examples = Spec("inputs", tensorflow::DT_STRING);
  const SignatureTensor scores = Spec("scores", tensorflow::DT_FLOAT);
  const SignatureTensor other = Spec("other", tensorflow::DT_FLOAT);
  const SignatureTensor third = Spec("z", tensorflow::DT_FLOAT);
  add("two_inputs", {examples, other}, {scores});
  add("three_outputs", {examples}, {other, scores, third});
  add("other_input", {Spec("examples", tensorflow::DT_STRING)}, {scores});
  add("float_input", {Spec("inputs", tensorflow::DT_FLOAT)}, {scores});
  add("other_output", {examples}, {other});
  add("one_more_output", {examples}, {other, scores});
  struct Case {
    const char* signature;
    bool classify;
    bool regress;
  };
  for (const Case& test : {Case{"two_inputs", false, false}, Case{"three_outputs", false, false},
                           Case{"other_input", false, false}, Case{"float_input", false, false},
                           Case{"other_output", false, false}, Case{"one_more_output", true, false},
                           Case{"regress", false, true}, Case{"classify", true, false}}) {
    SCOPED_TRACE(test.signature);
    auto classified = Call<ts::ClassificationResponse>(
        std::string(kPrediction) + "Classify", ExampleRequest<ts::ClassificationRequest>(test.signature));
    EXPECT_EQ(last_.code, test.classify ? 0 : 3) << last_.message;
    Call<ts::RegressionResponse>(std::string(kPrediction) + "Regress",
                                 ExampleRequest<ts::RegressionRequest>(test.signature));
    EXPECT_EQ(last_.code, test.regress ? 0 : 3) << last_.message;
    ts::MultiInferenceRequest multi;
    multi.mutable_input()->mutable_example_list()->add_examples();
    multi.add_tasks()->mutable_model_spec()->set_name("m");
    multi.mutable_tasks(0)->mutable_model_spec()->set_signature_name(test.signature);
    multi.mutable_tasks(0)->set_method_name("tensorflow/serving/regress");
    Call<ts::MultiInferenceResponse>(std::string(kPrediction) + "MultiInference", multi);
    EXPECT_EQ(last_.code, test.regress ? 0 : 3) << last_.message;
  }
  // What is wrong with the signature is told before what is wrong with the examples.
  auto empty = ExampleRequest<ts::ClassificationRequest>("other_input");
  empty.clear_input();
  Call<ts::ClassificationResponse>(std::string(kPrediction) + "Classify", empty);
  EXPECT_THAT(last_.message, HasSubstr("\"examples\""));
}

TEST_F(RpcMethodsTest, TheFirstTaskChoosesTheVersion) {
  ts::MultiInferenceRequest multi;
  multi.mutable_input()->mutable_example_list()->add_examples();
  for (const char* signature : {"regress", "classify"}) {
    auto* task = multi.add_tasks();
    task->mutable_model_spec()->set_name("m");
    task->mutable_model_spec()->set_signature_name(signature);
    task->set_method_name(std::string("tensorflow/serving/") + signature);
  }
  const auto code = [&] {
    Call<ts::MultiInferenceResponse>(std::string(kPrediction) + "MultiInference", multi);
    return last_.code;
  };
  multi.mutable_tasks(0)->mutable_model_spec()->mutable_version()->set_value(5);
  EXPECT_EQ(code(), 0) << last_.message;
  multi.mutable_tasks(1)->mutable_model_spec()->mutable_version()->set_value(5);
  EXPECT_EQ(code(), 0) << last_.message;
  multi.mutable_tasks(1)->mutable_model_spec()->mutable_version()->set_value(4);
  EXPECT_EQ(code(), 3);
  multi.mutable_tasks(1)->mutable_model_spec()->set_version_label("stable");
  EXPECT_EQ(code(), 3);
  multi.mutable_tasks(0)->mutable_model_spec()->set_version_label("stable");
  EXPECT_EQ(code(), 0) << last_.message;
  multi.clear_tasks();
  EXPECT_NE(code(), 0);
}

TEST_F(RpcMethodsTest, OutputsOfWrongShapeAreRefused) {
  outputs_["scores"] = Tensor(tensorflow::DT_FLOAT, {1, 3});
  Call<ts::ClassificationResponse>(std::string(kPrediction) + "Classify",
                                   ExampleRequest<ts::ClassificationRequest>("classify"));
  EXPECT_EQ(last_.code, 3);
  for (const tensorflow::TensorShape& shape :
       {tensorflow::TensorShape({}), tensorflow::TensorShape({2}), tensorflow::TensorShape({1, 2}),
        tensorflow::TensorShape({0})}) {
    outputs_["outputs"] = Tensor(tensorflow::DT_FLOAT, shape);
    Call<ts::RegressionResponse>(std::string(kPrediction) + "Regress",
                                 ExampleRequest<ts::RegressionRequest>("regress"));
    EXPECT_EQ(last_.code, 3) << shape.DebugString();
  }
}

TEST_F(RpcMethodsTest, ContextIsAddedToEveryExample) {
  auto request = ExampleRequest<ts::RegressionRequest>("regress");
  auto* list = request.mutable_input()->mutable_example_list_with_context();
  (*list->mutable_context()->mutable_features()->mutable_feature())["c"].mutable_int64_list()->add_value(1);
  (*list->mutable_context()->mutable_features()->mutable_feature())["own"].mutable_int64_list()->add_value(2);
  (*list->add_examples()->mutable_features()->mutable_feature())["own"].mutable_int64_list()->add_value(3);
  Call<ts::RegressionResponse>(std::string(kPrediction) + "Regress", request);
  tensorflow::Example example;
  ASSERT_TRUE(example.ParseFromString(std::string(last_inputs_.at(0).flat<tensorflow::tstring>()(0))));
  EXPECT_EQ(example.features().feature().at("c").int64_list().value(0), 1);
  EXPECT_EQ(example.features().feature().at("own").int64_list().value(0), 3);
}

TEST_F(RpcMethodsTest, MetadataAndStatus) {
  ts::GetModelMetadataRequest metadata;
  metadata.mutable_model_spec()->set_name("m");
  Call<ts::GetModelMetadataResponse>(std::string(kPrediction) + "GetModelMetadata", metadata);
  EXPECT_EQ(last_.message, "GetModelMetadataRequest must specify at least one metadata_field");
  metadata.add_metadata_field("signature_def");
  auto described =
      Call<ts::GetModelMetadataResponse>(std::string(kPrediction) + "GetModelMetadata", metadata);
  ts::SignatureDefMap map;
  ASSERT_TRUE(described.metadata().at("signature_def").UnpackTo(&map));
  EXPECT_EQ(map.signature_def_size(), 3);
  EXPECT_EQ(described.model_spec().version().value(), 5);

  ts::GetModelStatusRequest status;
  status.mutable_model_spec()->set_name("m");
  auto states = Call<ts::GetModelStatusResponse>(std::string(kModel) + "GetModelStatus", status);
  ASSERT_EQ(states.model_version_status_size(), 2);
  EXPECT_EQ(states.model_version_status(0).version(), 5);
  EXPECT_EQ(states.model_version_status(0).state(), ts::ModelVersionStatus::AVAILABLE);
  EXPECT_EQ(states.model_version_status(1).status().error_message(), "gone");
  EXPECT_EQ(states.model_version_status(1).status().error_code(), 5);
  status.mutable_model_spec()->set_name("nope");
  Call<ts::GetModelStatusResponse>(std::string(kModel) + "GetModelStatus", status);
  EXPECT_EQ(last_.code, 5);
}

TEST_F(RpcMethodsTest, ReloadAnswersByHowMuchMetricsGrew) {
  auto* const counter = tsl::monitoring::Counter<1>::New("/test/reload_metric", "Test.", "label");
  counter->GetCell("a")->IncrementBy(5);
  services_.reload = [&](const ts::ModelServerConfig&) {
    counter->GetCell("a")->IncrementBy(2);
    counter->GetCell("b")->IncrementBy(3);
    return absl::OkStatus();
  };
  ts::ReloadConfigRequest request;
  request.mutable_config()->mutable_model_config_list();
  const auto reload = [&] {
    FakeCall call(request.SerializeAsString());
    Call(std::string(kModel) + "HandleReloadConfigRequest", &call);
    while (call.finishes == 0) std::this_thread::yield();  // it runs on the pool
    EXPECT_EQ(call.status.code, 0) << call.status.message;
    ts::ReloadConfigResponse response;
    EXPECT_TRUE(response.ParseFromString(call.reply));
    return response;
  };
  EXPECT_EQ(reload().metric_size(), 0);
  request.add_metric_names("/test/reload_metric");
  request.add_metric_names("/test/none");
  const ts::ReloadConfigResponse response = reload();
  ASSERT_EQ(response.metric_size(), 2);
  EXPECT_EQ(response.metric(0).name(), "/test/reload_metric");
  EXPECT_EQ(response.metric(0).int64_value_increase(), 5);
  EXPECT_EQ(response.metric(1).name(), "/test/none");
  EXPECT_EQ(response.metric(1).int64_value_increase(), 0);
}

}  // namespace
}  // namespace tfipu::serving
