// Cuts a signature's graph at its device call.
#ifndef SERVING_SERVABLES_DEVICE_CUT_H_
#define SERVING_SERVABLES_DEVICE_CUT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/framework/graph.pb.h"

namespace tfipu::serving {

// A signature whose outputs need one device call and, before and after it, operations that do nothing but
// compute. Names are of tensors and nodes of the graph.
struct DeviceCut {
  std::string engine;
  std::string start;  // the operation that starts the engine; empty: none is known
  // Where the device's inputs come from: positions of the signature's inputs, or, if there is something to
  // compute, tensors to fetch.
  std::vector<int> inputs;
  std::vector<std::string> before;
  // Where the signature's outputs come from: positions of the device's results, or -1 - position of the input
  // that it is; or, if there is something to compute, tensors to fetch when `results` and the signature's
  // inputs are fed.
  std::vector<int> outputs;
  std::vector<std::string> results;
  std::vector<std::string> after;

  bool direct() const { return before.empty() && after.empty(); }
};

// Functions are inlined into copies of their nodes, which are added to `graph`, under names of this
// signature's own. FailedPrecondition, and nothing is added, says why the signature cannot be cut: for
// example it has two device calls, or one in a loop, or operations with side effects.
absl::StatusOr<DeviceCut> CutAtDeviceCall(const Signature& signature, tensorflow::GraphDef* graph);

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_DEVICE_CUT_H_
