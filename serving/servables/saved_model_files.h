// Whether the folder of a version holds all that it takes to load it.
#ifndef SERVING_SERVABLES_SAVED_MODEL_FILES_H_
#define SERVING_SERVABLES_SAVED_MODEL_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "tensorflow/core/protobuf/meta_graph.pb.h"

namespace tfipu::serving {

// A version may be seen while it is being copied: NotWholeError then, which names the file that is missing or
// too short. FailedPrecondition when something that is to be read is not a regular file: to open it might
// never end. What is there but wrong is for the load to say.

// Of the file that the meta graph is in: saved_model.pb, .pbtxt or .cpb.
absl::Status CheckGraphFile(const std::string& path);

// Of all files that the meta graph names: the variables' index, if it restores any, and the shards that the
// index names, as long as its entries say; assets, and of those that are executables as many bytes as their
// header says; the warm-up file up to its last record, and batching_params.pbtxt.
absl::Status CheckFilesOf(const tensorflow::MetaGraphDef& meta_graph, const std::string& path);

// Whether loading the meta graph restores variables: its RestoreV2 operations name any. Those without still
// have a variables folder, which not every copy has.
bool RestoresVariables(const tensorflow::MetaGraphDef& meta_graph);

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_SAVED_MODEL_FILES_H_
