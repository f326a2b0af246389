#include "serving/servables/device_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/protobuf/text_format.h"

namespace tfipu::serving {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

tensorflow::MetaGraphDef Parse(const std::string& text) {
  tensorflow::MetaGraphDef meta_graph;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &meta_graph));
  return meta_graph;
}

Signature WithOutput(const std::string& tensor_name) {
  Signature signature;
  signature.outputs.push_back({"y", tensor_name, tensorflow::DT_FLOAT, {}, {}});
  return signature;
}

constexpr char kGraph[] = R"(
  graph_def {
    node { name: "x" op: "Placeholder" }
    node { name: "plain" op: "Identity" input: "x" }
    node { name: "call" op: "ApplicationCall" input: "x" input: "^start"
           attr { key: "engine_name" value { s: "one" } } }
    node { name: "start" op: "NoOp" }
    node { name: "after" op: "Identity" input: "call:1" }
    node { name: "function" op: "StatefulPartitionedCall" input: "after"
           attr { key: "f" value { func { name: "inner" } } } }
    node { name: "direct" op: "outer" }
    node { name: "case" op: "Case"
           attr { key: "branches" value { list { func { name: "none" } func { name: "inner" } } } } }
    library {
      function { signature { name: "inner" }
        node_def { name: "call" op: "ApplicationCall" attr { key: "engine_name" value { s: "two" } } }
        node_def { name: "again" op: "PartitionedCall" attr { key: "f" value { func { name: "outer" } } } } }
      function { signature { name: "outer" } node_def { name: "i" op: "inner" } }
      function { signature { name: "unused" }
        node_def { name: "call" op: "ApplicationCall" attr { key: "engine_name" value { s: "three" } } } }
    }
  })";

TEST(DeviceCallsTest, FindsWhatASignatureCalls) {
  const tensorflow::MetaGraphDef meta_graph = Parse(kGraph);
  DeviceCalls calls(meta_graph.graph_def());
  EXPECT_THAT(calls.Of(WithOutput("plain:0")), IsEmpty());
  EXPECT_THAT(calls.Of(WithOutput("after:0")), ElementsAre("one"));
  EXPECT_THAT(calls.Of(WithOutput("function:1")), ElementsAre("one", "two"));
  EXPECT_THAT(calls.Of(WithOutput("direct:0")), ElementsAre("two"));
  EXPECT_THAT(calls.Of(WithOutput("case:0")), ElementsAre("two"));
  EXPECT_THAT(calls.Of(WithOutput("missing:0")), IsEmpty());
  EXPECT_THAT(calls.All(), ElementsAre("one", "three", "two"));
}

TEST(DeviceCallsTest, OrdinaryGraphsCallNone) {
  const tensorflow::MetaGraphDef meta_graph = Parse(R"(graph_def { node { name: "x" op: "Placeholder" } })");
  EXPECT_THAT(DeviceCalls(meta_graph.graph_def()).All(), IsEmpty());
}

}  // namespace
}  // namespace tfipu::serving
