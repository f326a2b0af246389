#include "serving/servables/device_cut.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime_ops/testing_model.h"
#include "tensorflow/core/public/version.h"

namespace tfipu::serving {
namespace {

using tensorflow::GraphDef;
using tensorflow::NodeDef;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

NodeDef Typed(NodeDef node) {
  (*node.mutable_attr())["T"].set_type(tensorflow::DT_FLOAT);
  return node;
}

NodeDef Call(const std::string& name, const std::string& x) {
  NodeDef call = Node(name, "ApplicationCall", {x, "runtime"});
  (*call.mutable_attr())["engine_name"].set_s("E");
  for (const char* const types : {"infeed_types", "outfeed_types"}) {
    (*call.mutable_attr())[types].mutable_list()->add_type(tensorflow::DT_FLOAT);
  }
  return call;
}

// Placeholder "x" and the start of an engine; calls are added by the tests.
GraphDef Base() {
  GraphDef graph;
  graph.mutable_versions()->set_producer(TF_GRAPH_DEF_VERSION);
  *graph.add_node() = Placeholder("x", tensorflow::DT_FLOAT);
  tensorflow::Tensor path(tensorflow::DT_STRING, {});
  *graph.add_node() = Constant("path", path);
  NodeDef runtime = Node("runtime", "ApplicationRuntime", {"path"});
  (*runtime.mutable_attr())["engine_name"].set_s("E");
  (*runtime.mutable_attr())["input_types"].mutable_list();
  *graph.add_node() = runtime;
  return graph;
}

Signature OneToOne(const std::string& output) {
  Signature signature;
  signature.name = "s";
  signature.index = 3;
  signature.inputs.push_back({"x", "x:0", tensorflow::DT_FLOAT, {}, {}});
  signature.outputs.push_back({"y", output, tensorflow::DT_FLOAT, {}, {}});
  return signature;
}

std::string WhyNot(const GraphDef& graph, const std::string& output) {
  GraphDef copy = graph;
  const auto cut = CutAtDeviceCall(OneToOne(output), &copy);
  EXPECT_EQ(copy.node_size(), graph.node_size());
  return std::string(cut.status().message());
}

TEST(DeviceCutTest, NothingButACallIsDirect) {
  GraphDef graph = Base();
  *graph.add_node() = Typed(Node("before", "Identity", {"x"}));
  *graph.add_node() = Call("call", "before");
  *graph.add_node() = Typed(Node("after", "Identity", {"call"}));
  const auto cut = CutAtDeviceCall(OneToOne("after:0"), &graph);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_TRUE(cut->direct());
  EXPECT_EQ(cut->engine, "E");
  EXPECT_EQ(cut->start, "runtime");
  EXPECT_THAT(cut->inputs, ElementsAre(0));
  EXPECT_THAT(cut->outputs, ElementsAre(0));
}

TEST(DeviceCutTest, WhatIsComputedBeforeAndAfterIsCutOff) {
  GraphDef graph = Base();
  *graph.add_node() = Typed(Node("before", "Neg", {"x"}));
  *graph.add_node() = Call("call", "before");
  *graph.add_node() = Typed(Node("after", "AddV2", {"call", "x"}));
  const auto cut = CutAtDeviceCall(OneToOne("after:0"), &graph);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_FALSE(cut->direct());
  EXPECT_THAT(cut->inputs, IsEmpty());
  EXPECT_THAT(cut->outputs, IsEmpty());
  // The halves run without each other, and without the device.
  std::unique_ptr<tensorflow::Session> session(tensorflow::NewSession({}));
  ASSERT_TRUE(session->Create(graph).ok());
  std::vector<tensorflow::Tensor> fetched;
  const tensorflow::Tensor x = Filled({2}, 3);
  ASSERT_TRUE(session->Run({{"x:0", x}}, {cut->before}, {}, &fetched).ok());
  EXPECT_EQ(fetched[0].flat<float>()(1), -3);
  const absl::Status after =
      session->Run({{"x:0", x}, {cut->results[0], Filled({2}, 40)}}, {cut->after}, {}, &fetched);
  ASSERT_TRUE(after.ok()) << after;
  EXPECT_EQ(fetched[0].flat<float>()(1), 43);
}

TEST(DeviceCutTest, OtherGraphsSayWhyTheyAreNotCut) {
  GraphDef graph = Base();
  *graph.add_node() = Call("one", "x");
  *graph.add_node() = Call("two", "one");
  EXPECT_EQ(WhyNot(graph, "two:0"), "two device calls");
  EXPECT_EQ(WhyNot(graph, "x:0"), "no device call");

  graph = Base();
  *graph.add_node() = Call("call", "x");
  NodeDef random = Node("random", "RandomUniform", {"shape"});
  (*random.mutable_attr())["T"].set_type(tensorflow::DT_INT32);
  (*random.mutable_attr())["dtype"].set_type(tensorflow::DT_FLOAT);
  tensorflow::Tensor shape(tensorflow::DT_INT32, {1});
  shape.flat<int>()(0) = 1;
  *graph.add_node() = Constant("shape", shape);
  *graph.add_node() = random;
  *graph.add_node() = Typed(Node("sum", "AddV2", {"call", "random"}));
  EXPECT_EQ(WhyNot(graph, "sum:0"), "RandomUniform has side effects");
  EXPECT_THAT(WhyNot(graph, "missing:0"), HasSubstr("missing"));

  graph = Base();
  *graph.add_node() = Typed(Node("y", "Identity", {"x"}));
  *graph.add_node() = Call("call", "y");
  Signature fed = OneToOne("call:0");
  fed.inputs[0].tensor_name = "y:0";
  EXPECT_EQ(CutAtDeviceCall(fed, &graph).status().message(), "input x is not a placeholder");
}

}  // namespace
}  // namespace tfipu::serving
