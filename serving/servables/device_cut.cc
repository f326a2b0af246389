#include "serving/servables/device_cut.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "serving/servables/device_calls.h"
#include "tensorflow/core/common_runtime/function_body.h"
#include "tensorflow/core/common_runtime/function_def_utils.h"
#include "tensorflow/core/common_runtime/graph_constructor.h"
#include "tensorflow/core/common_runtime/inline_function_utils.h"
#include "tensorflow/core/framework/function.h"
#include "tensorflow/core/framework/node_def_util.h"
#include "tensorflow/core/graph/algorithm.h"
#include "tensorflow/core/graph/graph.h"

namespace tfipu::serving {
namespace {

using tensorflow::Graph;
using tensorflow::GraphDef;
using tensorflow::Node;
using tensorflow::NodeDef;
using tensorflow::OutputTensor;

constexpr char kCallOp[] = "ApplicationCall";
constexpr char kStartOp[] = "ApplicationRuntime";

// A function that calls itself has no end.
constexpr int kMaxFunctions = 10'000;

// Operations that TensorFlow calls stateful and that change nothing: handles of resources, and reading them.
constexpr absl::string_view kHarmless[] = {
    kCallOp,
    kStartOp,
    "VarHandleOp",
    "ReadVariableOp",
    "VarIsInitializedOp",
    "VariableShape",
    "ResourceGather",
    "ResourceGatherNd",
    "HashTableV2",
    "MutableHashTableV2",
    "HashTable",
    "LookupTableFindV2",
    "LookupTableSizeV2",
    "AnonymousHashTable",
    "MutableDenseHashTableV2",
};

absl::Status NotCut(absl::string_view why) { return absl::FailedPreconditionError(why); }

// "node", "node:1" -> node and position.
std::pair<std::string, int> EndpointOf(absl::string_view name) {
  const std::size_t colon = name.rfind(':');
  int position = 0;
  if (colon != absl::string_view::npos && absl::SimpleAtoi(name.substr(colon + 1), &position)) {
    return {std::string(name.substr(0, colon)), position};
  }
  return {std::string(name), 0};
}

NodeDef IdentityOf(const std::string& name, const std::string& input, tensorflow::DataType type) {
  NodeDef node;
  node.set_name(name);
  node.set_op("Identity");
  node.add_input(input);
  (*node.mutable_attr())["T"].set_type(type);
  return node;
}

// A signature's part of a graph, with its functions inlined.
class InlinedSignature {
 public:
  InlinedSignature(const Signature& signature, const GraphDef& graph)
      : signature_(signature),
        original_(graph),
        library_(tensorflow::OpRegistry::Global(), graph.library()),
        graph_(library_) {}

  absl::Status Make() {
    TFIPU_RETURN_IF_ERROR(TakePart());
    TFIPU_RETURN_IF_ERROR(Inline());
    TFIPU_RETURN_IF_ERROR(CheckOperations());
    return FindCall();
  }

  // Describes the cut, and adds to `graph` what it needs.
  absl::StatusOr<DeviceCut> Cut(GraphDef* graph);

 private:
  std::string Prefix() const { return absl::StrCat("device_cut_", signature_.index, "/"); }
  static std::string OutputNode(std::size_t output) { return absl::StrCat("signature_output_", output); }

  absl::Status TakePart();
  absl::Status Inline();
  absl::Status InlineCall(Node* caller);
  absl::Status CheckOperations() const;
  absl::Status FindCall();
  // Where a tensor comes from, past operations that pass it on as it is.
  static OutputTensor Origin(OutputTensor tensor);
  static OutputTensor InputOf(const Node* node, int position);
  // Position of the signature's input that it is, if any.
  std::optional<int> AsInput(const OutputTensor& tensor) const;
  const Node* Starter() const;
  void ChooseCopies();
  std::string NameOf(const Node* node, const std::string& prefix) const {
    return copied_.contains(node) ? prefix + node->name() : node->name();
  }
  void CopyNodes(const std::string& prefix, GraphDef* graph) const;

  const Signature& signature_;
  const GraphDef& original_;
  const tensorflow::FunctionLibraryDefinition library_;
  Graph graph_;
  std::map<std::string, NodeDef> part_;               // the nodes that were there before
  std::map<std::pair<std::string, int>, int> feeds_;  // position of the signature's input, by endpoint
  const Node* call_ = nullptr;
  absl::flat_hash_set<const Node*> copied_;
};

absl::Status InlinedSignature::TakePart() {
  absl::flat_hash_map<absl::string_view, const NodeDef*> nodes;
  for (const NodeDef& node : original_.node()) {
    nodes.emplace(node.name(), &node);
    if (absl::StartsWith(node.name(), Prefix()))
      return NotCut(absl::StrCat("a node has the name ", node.name()));
  }
  for (std::size_t i = 0; i < signature_.inputs.size(); ++i) {
    auto endpoint = EndpointOf(signature_.inputs[i].tensor_name);
    const auto node = nodes.find(endpoint.first);
    if (node == nodes.end() || !node->second->input().empty()) {
      return NotCut(absl::StrCat("input ", signature_.inputs[i].alias, " is not a placeholder"));
    }
    feeds_.emplace(std::move(endpoint), static_cast<int>(i));
  }
  GraphDef part;
  *part.mutable_versions() = original_.versions();
  *part.mutable_library() = original_.library();
  std::vector<std::string> left;
  for (std::size_t i = 0; i < signature_.outputs.size(); ++i) {
    const SignatureTensor& output = signature_.outputs[i];
    *part.add_node() = IdentityOf(OutputNode(i), output.tensor_name, output.dtype);
    left.push_back(EndpointOf(output.tensor_name).first);
  }
  while (!left.empty()) {
    const std::string name = std::move(left.back());
    left.pop_back();
    const auto node = nodes.find(name);
    if (node == nodes.end()) return NotCut(absl::StrCat("the graph has no node ", name));
    if (!part_.emplace(name, *node->second).second) continue;
    *part.add_node() = *node->second;
    for (absl::string_view input : node->second->input()) {
      left.push_back(input.front() == '^' ? std::string(input.substr(1)) : EndpointOf(input).first);
    }
  }
  tensorflow::GraphConstructorOptions options;
  options.allow_internal_ops = true;
  options.add_default_attributes = true;
  return tensorflow::ConvertGraphDefToGraph(options, std::move(part), &graph_);
}

absl::Status InlinedSignature::Inline() {
  for (int functions = 0; functions < kMaxFunctions; ++functions) {
    Node* caller = nullptr;
    for (Node* node : graph_.op_nodes()) {
      if (node->IsPartitionedCall() || library_.Find(node->type_string()) != nullptr) caller = node;
    }
    if (caller == nullptr) return absl::OkStatus();
    TFIPU_RETURN_IF_ERROR(InlineCall(caller));
  }
  return NotCut("its functions call each other without end");
}

absl::Status InlinedSignature::InlineCall(Node* caller) {
  tensorflow::NameAttrList function;
  if (caller->IsPartitionedCall()) {
    TFIPU_RETURN_IF_ERROR(tensorflow::GetNodeAttr(caller->attrs(), "f", &function));
  } else {
    function.set_name(caller->type_string());
    *function.mutable_attr() = caller->def().attr();
  }
  const tensorflow::FunctionDef* const definition = library_.Find(function.name());
  if (definition == nullptr) return NotCut(absl::StrCat("there is no function ", function.name()));
  std::unique_ptr<tensorflow::FunctionBody> body;
  TFIPU_RETURN_IF_ERROR(tensorflow::FunctionDefToBodyHelper(
      *definition, tensorflow::AttrSlice(&function.attr()), &library_, &body));
  tensorflow::InlineFunctionBodyOptions options;
  options.ignore_noinline = true;
  options.output_control_src = tensorflow::InlineFunctionBodyOptions::OutputControlSource::kControlOutputs;
  return tensorflow::InlineFunctionBody(library_, &graph_, caller, body.get(), options);
}

absl::Status InlinedSignature::CheckOperations() const {
  const DeviceCalls calls(original_);
  for (const Node* node : graph_.op_nodes()) {
    if (node->type_string() != kCallOp && calls.Makes(node->def())) {
      return NotCut(absl::StrCat("a device call inside of ", node->type_string()));
    }
    if (node->IsControlFlow()) return NotCut(absl::StrCat("control flow (", node->type_string(), ")"));
    const bool harmless = std::find(std::begin(kHarmless), std::end(kHarmless),
                                    absl::string_view(node->type_string())) != std::end(kHarmless);
    if (node->op_def().is_stateful() && !harmless) {
      return NotCut(absl::StrCat(node->type_string(), " has side effects"));
    }
  }
  return absl::OkStatus();
}

absl::Status InlinedSignature::FindCall() {
  std::unordered_set<const Node*> wanted;
  for (Node* node : graph_.op_nodes()) {
    for (std::size_t i = 0; i < signature_.outputs.size(); ++i) {
      if (node->name() == OutputNode(i)) wanted.insert(node);
    }
  }
  // Control returns of functions that nothing waits for are no part of what is computed, but a device call
  // is.
  int calls = 0;
  for (const Node* node : graph_.op_nodes()) {
    if (node->type_string() != kCallOp) continue;
    call_ = node;
    ++calls;
  }
  if (calls == 0) return NotCut("no device call");
  if (calls > 1) return NotCut(calls == 2 ? "two device calls" : absl::StrCat(calls, " device calls"));
  tensorflow::PruneForReverseReachability(&graph_, std::move(wanted));
  // So that a walk from the source meets every node.
  tensorflow::FixupSourceAndSinkEdges(&graph_);
  for (const Node* node : graph_.op_nodes()) {
    if (node == call_) return absl::OkStatus();
  }
  return NotCut("its outputs do not need the device call");
}

OutputTensor InlinedSignature::InputOf(const Node* node, int position) {
  const tensorflow::Edge* edge = nullptr;
  if (!node->input_edge(position, &edge).ok()) return OutputTensor(nullptr, 0);
  return OutputTensor(edge->src(), edge->src_output());
}

OutputTensor InlinedSignature::Origin(OutputTensor tensor) {
  while (tensor.node != nullptr) {
    const std::string& op = tensor.node->type_string();
    const bool same_cast = op == "Cast" && tensor.node->input_type(0) == tensor.node->output_type(0);
    if (op != "Identity" && op != "IdentityN" && op != "StopGradient" && op != "PreventGradient" &&
        !same_cast) {
      break;
    }
    tensor = InputOf(tensor.node, tensor.index);
  }
  return tensor;
}

std::optional<int> InlinedSignature::AsInput(const OutputTensor& tensor) const {
  if (tensor.node == nullptr) return std::nullopt;
  const auto found = feeds_.find({tensor.node->name(), tensor.index});
  if (found == feeds_.end()) return std::nullopt;
  return found->second;
}

const Node* InlinedSignature::Starter() const {
  // The anchor is the last of the call's inputs.
  const OutputTensor anchor = Origin(InputOf(call_, call_->num_inputs() - 1));
  return anchor.node != nullptr && anchor.node->type_string() == kStartOp ? anchor.node : nullptr;
}

absl::StatusOr<DeviceCut> InlinedSignature::Cut(GraphDef* graph) {
  DeviceCut cut;
  TFIPU_RETURN_IF_ERROR(tensorflow::GetNodeAttr(call_->attrs(), "engine_name", &cut.engine));
  const std::string prefix = Prefix();
  const int infeeds = call_->num_inputs() - 1;
  for (int i = 0; i < infeeds; ++i) {
    if (const auto input = AsInput(Origin(InputOf(call_, i)))) cut.inputs.push_back(*input);
    cut.before.push_back(absl::StrCat(prefix, "infeed_", i, ":0"));
  }
  if (static_cast<int>(cut.inputs.size()) == infeeds) {
    cut.before.clear();
  } else {
    cut.inputs.clear();
  }
  absl::flat_hash_map<absl::string_view, const Node*> by_name;
  for (const Node* node : graph_.op_nodes()) by_name.emplace(node->name(), node);
  for (std::size_t i = 0; i < signature_.outputs.size(); ++i) {
    const OutputTensor origin = Origin(InputOf(by_name.at(OutputNode(i)), 0));
    if (origin.node == call_) {
      cut.outputs.push_back(origin.index);
    } else if (const auto input = AsInput(origin)) {
      cut.outputs.push_back(-1 - *input);
    }
    cut.after.push_back(absl::StrCat(prefix, OutputNode(i), ":0"));
  }
  if (cut.outputs.size() == signature_.outputs.size()) {
    cut.after.clear();
  } else {
    cut.outputs.clear();
    for (int i = 0; i < call_->num_outputs(); ++i)
      cut.results.push_back(absl::StrCat(prefix, "result_", i, ":0"));
  }
  ChooseCopies();
  if (const Node* const starter = Starter()) cut.start = NameOf(starter, prefix);
  CopyNodes(prefix, graph);
  return cut;
}

void InlinedSignature::ChooseCopies() {
  // In the order of what needs what. A node that was there before stays what it is, unless what it needs is a
  // copy, or the device's result.
  std::vector<Node*> order;
  tensorflow::GetReversePostOrder(graph_, &order);
  for (const Node* node : order) {
    if (!node->IsOp()) continue;
    bool copy = node == call_ || part_.find(node->name()) == part_.end();
    for (const tensorflow::Edge* edge : node->in_edges()) copy |= copied_.contains(edge->src());
    if (copy) copied_.insert(node);
  }
}

void InlinedSignature::CopyNodes(const std::string& prefix, GraphDef* graph) const {
  const auto name_of = [&](const Node* node) { return NameOf(node, prefix); };
  const auto endpoint_of = [&](const tensorflow::Edge* edge) {
    if (edge->src() == call_) return absl::StrCat(prefix, "result_", edge->src_output());
    return absl::StrCat(name_of(edge->src()), ":", edge->src_output());
  };
  for (const Node* node : graph_.op_nodes()) {
    if (node == call_ || !copied_.contains(node)) continue;
    NodeDef* const copy = graph->add_node();
    *copy = node->def();
    copy->set_name(prefix + node->name());
    copy->clear_input();
    copy->mutable_attr()->erase("_class");
    std::vector<std::string> inputs(node->num_inputs());
    std::set<std::string> controls;
    for (const tensorflow::Edge* edge : node->in_edges()) {
      if (!edge->IsControlEdge()) {
        inputs[edge->dst_input()] = endpoint_of(edge);
      } else if (edge->src()->IsOp() && edge->src() != call_ && edge->src()->type_string() != kStartOp) {
        // The device's call and start are before all that needs them, by the cut.
        controls.insert(absl::StrCat("^", name_of(edge->src())));
      }
    }
    for (std::string& input : inputs) copy->add_input(std::move(input));
    for (const std::string& control : controls) copy->add_input(control);
  }
  for (int i = 0; i < call_->num_outputs(); ++i) {
    NodeDef* const result = graph->add_node();
    result->set_name(absl::StrCat(prefix, "result_", i));
    result->set_op("Placeholder");
    (*result->mutable_attr())["dtype"].set_type(call_->output_type(i));
    (*result->mutable_attr())["shape"].mutable_shape()->set_unknown_rank(true);
  }
  for (const tensorflow::Edge* edge : call_->in_edges()) {
    if (edge->IsControlEdge() || edge->dst_input() + 1 == call_->num_inputs()) continue;
    *graph->add_node() = IdentityOf(absl::StrCat(prefix, "infeed_", edge->dst_input()), endpoint_of(edge),
                                    call_->input_type(edge->dst_input()));
  }
}

}  // namespace

absl::StatusOr<DeviceCut> CutAtDeviceCall(const Signature& signature, GraphDef* graph) {
  InlinedSignature inlined(signature, *graph);
  TFIPU_RETURN_IF_ERROR(inlined.Make());
  return inlined.Cut(graph);
}

}  // namespace tfipu::serving
