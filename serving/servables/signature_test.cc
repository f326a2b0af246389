#include "serving/servables/signature.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

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
  EXPECT_THAT(indices, ::testing::ElementsAre(0, 1, 2));
}

TEST(SignatureTest, SaysWhatCannotBeRun) {
  const Signatures signatures = MakeSignatures();
  EXPECT_TRUE(CheckRunnable(signatures.at("serving_default")).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckRunnable(signatures.at("__saved_model_init_op"))));
  Signature unnamed = signatures.at("serving_default");
  unnamed.method_name.clear();
  EXPECT_TRUE(CheckRunnable(unnamed).ok());
  unnamed.outputs.clear();
  EXPECT_TRUE(absl::IsInvalidArgument(CheckRunnable(unnamed)));
  EXPECT_TRUE(absl::IsUnimplemented(CheckRunnable(signatures.at("sparse"))));
}

TEST(SignatureTest, ChecksNumberTypeAndShapeOfInputs) {
  using tensorflow::Tensor;
  const Signatures signatures = MakeSignatures();
  const Signature& signature = signatures.at("serving_default");
  const Tensor a(1);
  const auto check = [&](std::vector<Tensor> inputs) { return CheckInputs(signature, inputs); };
  EXPECT_TRUE(check({a, Tensor(tensorflow::DT_FLOAT, {5, 3})}).ok());
  EXPECT_THAT(std::string(check({a}).message()), HasSubstr("expected 2 inputs, found 1"));
  EXPECT_EQ(check({a, Tensor(tensorflow::DT_FLOAT, {5, 4})}).message(),
            "Input \"x\" of signature \"serving_default\": expected float32 [?,3], found float32 [5,4].");
  EXPECT_EQ(check({a, Tensor(tensorflow::DT_DOUBLE, {5, 3})}).message(),
            "Input \"x\" of signature \"serving_default\": expected float32 [?,3], found float64 [5,3].");
  EXPECT_TRUE(absl::IsInvalidArgument(check({a, Tensor(tensorflow::DT_FLOAT, {3})})));
}

}  // namespace
}  // namespace tfipu::serving
