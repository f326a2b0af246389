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

// InvalidArgument when a shape is impossible or a default value is not a tensor.
absl::StatusOr<Signatures> SignaturesOf(const tensorflow::MetaGraphDef& meta_graph);

// InvalidArgument unless there is one input for each of the signature's, of its type and, with `shapes`,
// compatible with its shape; names the input, what was expected and what was found.
absl::Status CheckInputs(const Signature& signature, const std::vector<tensorflow::Tensor>& inputs,
                         bool shapes);

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_SIGNATURE_H_
