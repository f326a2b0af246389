// Which device engines a graph calls.
#ifndef SERVING_SERVABLES_DEVICE_CALLS_H_
#define SERVING_SERVABLES_DEVICE_CALLS_H_

#include <map>
#include <set>
#include <string>

#include "absl/strings/string_view.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/framework/graph.pb.h"
#include "tensorflow/core/framework/node_def.pb.h"

namespace tfipu::serving {

// Finds the ApplicationCall operations of a graph, also those inside of functions. The graph outlives it.
// Thread-safe.
class DeviceCalls {
 public:
  explicit DeviceCalls(const tensorflow::GraphDef& graph);

  // Names of all engines that anything in the graph calls.
  std::set<std::string> All() const;

  // Names of the engines that are called to compute the signature's outputs.
  std::set<std::string> Of(const Signature& signature) const;

  // Whether the node is a device call, or its functions make one.
  bool Makes(const tensorflow::NodeDef& node) const;

 private:
  struct Found {
    std::set<std::string> engines;
    std::set<absl::string_view> functions;  // that have been looked at
  };

  void Add(const tensorflow::NodeDef& node, Found* found) const;
  void AddFunction(absl::string_view name, Found* found) const;

  const tensorflow::GraphDef& graph_;
  std::map<absl::string_view, const tensorflow::NodeDef*> nodes_;
  std::map<absl::string_view, const tensorflow::FunctionDef*> functions_;
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_DEVICE_CALLS_H_
