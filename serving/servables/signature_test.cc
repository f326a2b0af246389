#include "serving/servables/signature.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow/core/protobuf/struct.pb.h"

namespace tfipu::serving {
namespace {

using ::testing::HasSubstr;

void SetTensor(tensorflow::TensorInfo* info, const std::string& name, tensorflow::DataType type,
               const std::vector<std::int64_t>& shape) {
  info->set_name(name);
  info->set_dtype(type);
  for (const std::int64_t size : shape) info->mutable_tensor_shape()->add_dim()->set_size(size);
}

Signatures MakeSignatures() {
  tensorflow::MetaGraphDef meta_graph;
  auto& signature = (*meta_graph.mutable_signature_def())["serving_default"];
  signature.set_method_name("tensorflow/serving/predict");
  SetTensor(&(*signature.mutable_inputs())["x"], "x", tensorflow::DT_FLOAT, {-1, 3});
  SetTensor(&(*signature.mutable_inputs())["a"], "a:1", tensorflow::DT_INT32, {});
  tensorflow::Tensor(7).AsProtoField(&(*signature.mutable_defaults())["a"]);
  SetTensor(&(*signature.mutable_outputs())["y"], "y:0", tensorflow::DT_FLOAT, {-1});
  auto& init = (*meta_graph.mutable_signature_def())["__saved_model_init_op"];
  SetTensor(&(*init.mutable_outputs())["__saved_model_init_op"], "NoOp", tensorflow::DT_INVALID, {});
  auto& sparse = (*meta_graph.mutable_signature_def())["sparse"];
  sparse.set_method_name("tensorflow/serving/predict");
  (*sparse.mutable_inputs())["s"].mutable_coo_sparse()->set_values_tensor_name("v:0");
  SetTensor(&(*sparse.mutable_outputs())["y"], "y:0", tensorflow::DT_FLOAT, {-1});
  auto& ragged = (*meta_graph.mutable_signature_def())["ragged"];
  SetTensor(&(*ragged.mutable_inputs())["x"], "x", tensorflow::DT_FLOAT, {-1});
  (*ragged.mutable_outputs())["words"].mutable_composite_tensor()->mutable_type_spec()->set_type_spec_class(
      tensorflow::TypeSpecProto::RAGGED_TENSOR_SPEC);
  auto& unnamed = (*meta_graph.mutable_signature_def())["unnamed_method"];
  SetTensor(&(*unnamed.mutable_outputs())["y"], "y:0", tensorflow::DT_FLOAT, {-1});
  SetTensor(&(*(*meta_graph.mutable_signature_def())["no_outputs"].mutable_inputs())["x"], "x",
            tensorflow::DT_FLOAT, {-1});
  return *SignaturesOf(meta_graph);
}

TEST(SignatureTest, OrdersTensorsByAlias) {
  const Signatures signatures = MakeSignatures();
  const Signature& signature = signatures.at("serving_default");
  ASSERT_EQ(signature.inputs.size(), 2);
  EXPECT_EQ(signature.inputs[0].alias, "a");
  EXPECT_EQ(signature.inputs[0].tensor_name, "a:1");
  EXPECT_EQ(signature.inputs[0].default_value->scalar<int>()(), 7);
  EXPECT_EQ(signature.inputs[1].tensor_name, "x:0");
  EXPECT_EQ(signature.FindInput("x"), 1);
  EXPECT_EQ(signature.FindInput("z"), -1);
  EXPECT_EQ(signature.FindOutput("y"), 0);
  std::vector<int> indices;
  for (const auto& [_, one] : signatures) indices.push_back(one.index);
  EXPECT_THAT(indices, ::testing::ElementsAre(0, 1, 2, 3, 4, 5));
}

// With the codes that TensorFlow's session gives for them.
TEST(SignatureTest, SaysWhatCannotBeRun) {
  const Signatures signatures = MakeSignatures();
  EXPECT_TRUE(signatures.at("serving_default").runnable.ok());
  EXPECT_TRUE(signatures.at("unnamed_method").runnable.ok());
  EXPECT_TRUE(absl::IsOutOfRange(signatures.at("__saved_model_init_op").runnable));
  const auto says = [&](const char* name, const char* text) {
    const absl::Status& status = signatures.at(name).runnable;
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  };
  says("no_outputs", "has no outputs");
  says("sparse", "input \"s\" is a sparse tensor; only dense tensors can be served");
  says("ragged", "output \"words\" is a ragged tensor; only dense tensors can be served");
}

TEST(SignatureTest, RefusesImpossibleShapes) {
  for (const std::vector<std::int64_t>& shape :
       {std::vector<std::int64_t>(300, 1),
        std::vector<std::int64_t>{std::int64_t{1} << 40, std::int64_t{1} << 40}}) {
    for (const bool input : {true, false}) {
      tensorflow::MetaGraphDef meta_graph;
      auto& signature = (*meta_graph.mutable_signature_def())["serving_default"];
      auto& tensors = input ? *signature.mutable_inputs() : *signature.mutable_outputs();
      SetTensor(&tensors["x"], "x", tensorflow::DT_FLOAT, shape);
      const absl::Status status = SignaturesOf(meta_graph).status();
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("\"x\" of signature \"serving_default\""));
    }
  }
}

// A few bytes of a model ask for a terabyte.
TEST(SignatureTest, RefusesDefaultsOfAnySize) {
  for (const bool strings : {false, true}) {
    tensorflow::MetaGraphDef meta_graph;
    auto& signature = (*meta_graph.mutable_signature_def())["serving_default"];
    SetTensor(&(*signature.mutable_inputs())["x"], "x",
              strings ? tensorflow::DT_STRING : tensorflow::DT_FLOAT, {-1});
    SetTensor(&(*signature.mutable_outputs())["y"], "y:0", tensorflow::DT_FLOAT, {-1});
    tensorflow::TensorProto& value = (*signature.mutable_defaults())["x"];
    value.set_dtype(strings ? tensorflow::DT_STRING : tensorflow::DT_FLOAT);
    strings ? value.add_string_val(std::string(1 << 20, 'x')) : void(value.add_float_val(1));
    value.mutable_tensor_shape()->add_dim()->set_size(strings ? 1 << 16 : std::int64_t{1} << 38);
    EXPECT_TRUE(absl::IsInvalidArgument(SignaturesOf(meta_graph).status()));
    value.mutable_tensor_shape()->mutable_dim(0)->set_size(2);
    EXPECT_TRUE(SignaturesOf(meta_graph).ok());
  }
}

TEST(SignatureTest, ChecksNumberTypeAndShapeOfInputs) {
  using tensorflow::Tensor;
  const Signatures signatures = MakeSignatures();
  const Signature& signature = signatures.at("serving_default");
  const Tensor a(1);
  const auto check = [&](std::vector<Tensor> inputs) {
    return CheckInputs(signature, inputs, /*shapes=*/true);
  };
  EXPECT_TRUE(check({a, Tensor(tensorflow::DT_FLOAT, {5, 3})}).ok());
  EXPECT_THAT(std::string(check({a}).message()), HasSubstr("expected 2 inputs, found 1"));
  EXPECT_EQ(check({a, Tensor(tensorflow::DT_FLOAT, {5, 4})}).message(),
            "Input \"x\" of signature \"serving_default\": expected float32 [?,3], found float32 [5,4].");
  EXPECT_EQ(check({a, Tensor(tensorflow::DT_DOUBLE, {5, 3})}).message(),
            "Input \"x\" of signature \"serving_default\": expected float32 [?,3], found float64 [5,3].");
  EXPECT_TRUE(absl::IsInvalidArgument(check({a, Tensor(tensorflow::DT_FLOAT, {3})})));
  EXPECT_TRUE(CheckInputs(signature, {a, Tensor(tensorflow::DT_FLOAT, {3})}, /*shapes=*/false).ok());
  EXPECT_FALSE(CheckInputs(signature, {a, Tensor(tensorflow::DT_DOUBLE, {5, 3})}, /*shapes=*/false).ok());
}

}  // namespace
}  // namespace tfipu::serving
