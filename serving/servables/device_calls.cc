#include "serving/servables/device_calls.h"

#include <utility>
#include <vector>

#include "tensorflow/core/framework/attr_value.pb.h"
#include "tensorflow/core/framework/function.pb.h"

namespace tfipu::serving {
namespace {

constexpr char kDeviceOp[] = "ApplicationCall";

// The node of an input or tensor name: "node", "node:1", "^node".
absl::string_view NodeOf(absl::string_view input) {
  if (!input.empty() && input.front() == '^') input.remove_prefix(1);
  return input.substr(0, input.find(':'));
}

}  // namespace

DeviceCalls::DeviceCalls(const tensorflow::GraphDef& graph) : graph_(graph) {
  for (const auto& node : graph.node()) nodes_.emplace(node.name(), &node);
  for (const auto& function : graph.library().function()) {
    functions_.emplace(function.signature().name(), &function);
  }
}

std::set<std::string> DeviceCalls::All() const {
  Found found;
  for (const auto& node : graph_.node()) Add(node, &found);
  for (const auto& [name, _] : functions_) AddFunction(name, &found);
  return std::move(found.engines);
}

std::set<std::string> DeviceCalls::Of(const Signature& signature) const {
  Found found;
  std::set<absl::string_view> seen;
  std::vector<absl::string_view> left;
  for (const SignatureTensor& output : signature.outputs) left.push_back(NodeOf(output.tensor_name));
  while (!left.empty()) {
    const absl::string_view name = left.back();
    left.pop_back();
    const auto node = nodes_.find(name);
    if (node == nodes_.end() || !seen.insert(node->first).second) continue;
    Add(*node->second, &found);
    for (const std::string& input : node->second->input()) left.push_back(NodeOf(input));
  }
  return std::move(found.engines);
}

bool DeviceCalls::Makes(const tensorflow::NodeDef& node) const {
  Found found;
  Add(node, &found);
  return !found.engines.empty();
}

void DeviceCalls::Add(const tensorflow::NodeDef& node, Found* found) const {
  if (node.op() == kDeviceOp) {
    const auto name = node.attr().find("engine_name");
    if (name != node.attr().end()) found->engines.insert(name->second.s());
    return;
  }
  // An operation may be a function itself, or name those it calls.
  AddFunction(node.op(), found);
  for (const auto& [_, value] : node.attr()) {
    if (value.has_func()) AddFunction(value.func().name(), found);
    for (const auto& function : value.list().func()) AddFunction(function.name(), found);
  }
}

void DeviceCalls::AddFunction(absl::string_view name, Found* found) const {
  const auto function = functions_.find(name);
  if (function == functions_.end() || !found->functions.insert(function->first).second) return;
  for (const auto& node : function->second->node_def()) Add(node, found);
}

}  // namespace tfipu::serving
