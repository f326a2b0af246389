// Loads SavedModels and runs their signatures.
#ifndef SERVING_SERVABLES_SAVED_MODEL_H_
#define SERVING_SERVABLES_SAVED_MODEL_H_

#include <functional>
#include <memory>
#include <string>
#include <unordered_set>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "serving/core/loader.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/protobuf/config.pb.h"
#include "tensorflow/core/protobuf/meta_graph.pb.h"

namespace tfipu::serving {

struct SavedModelOptions {
  // Of every session. Pool sizes are the process's: those of the first session count.
  tensorflow::ConfigProto session;
  // The meta graph with exactly these tags is loaded.
  std::unordered_set<std::string> tags = {"serve"};
  // Independent operations of one call run on TensorFlow's inter-op pool. Otherwise a call runs whole in its
  // caller's thread, which costs less and, with many calls at once, is no slower.
  bool use_inter_op_pool = false;
  // Inputs whose shape is not what the signature says are refused, as those of signatures that call a device
  // always are. Otherwise they go to the model, whose answer or error counts.
  bool enforce_shapes = false;
};

// The meta graph with the options' tags of the SavedModel at the path. The error is TensorFlow's own and
// names the path.
absl::StatusOr<tensorflow::MetaGraphDef> ReadMetaGraph(const std::string& path,
                                                       const SavedModelOptions& options);

// Loads a meta graph that was read from the path into a session of its own, which gets name and version of
// `id` as session metadata: there device operations find the scope of their engines' names. The default
// signature and a few others are made ready, and the model's initialisation starts what it starts (engines
// with their executables): what is wrong with that is an error now, not of a call later. The error is
// TensorFlow's or the engine's own and names the path or the signature.
//
// The servable is immutable and thread-safe. Destroying it closes the session.
absl::StatusOr<std::unique_ptr<const Servable>> LoadSavedModelServable(const VersionSource& source,
                                                                       const SavedModelOptions& options,
                                                                       tensorflow::MetaGraphDef meta_graph);

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_SAVED_MODEL_H_
