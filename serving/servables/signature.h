// Signatures of SavedModels in the form that calls need.
#ifndef SERVING_SERVABLES_SIGNATURE_H_
#define SERVING_SERVABLES_SIGNATURE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/protobuf/meta_graph.pb.h"

namespace tfipu::serving {

using Signatures = std::map<std::string, Signature, std::less<>>;

// InvalidArgument when a default value is no tensor.
absl::StatusOr<Signatures> SignaturesOf(const tensorflow::MetaGraphDef& meta_graph);

// Whether a session can run it: it has outputs, and all its inputs and outputs are dense tensors with names.
// What its method_name says does not matter.
absl::Status CheckRunnable(const Signature& signature);

// InvalidArgument unless there is one input for each of the signature's, of its type and compatible with its
// shape; names the input, what was expected and what was found.
absl::Status CheckInputs(const Signature& signature, const std::vector<tensorflow::Tensor>& inputs);

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_SIGNATURE_H_
