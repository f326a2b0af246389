// From the folder of a version to a servable that is ready for calls.
#ifndef SERVING_SERVABLES_SAVED_MODEL_LOADER_H_
#define SERVING_SERVABLES_SAVED_MODEL_LOADER_H_

#include <memory>
#include <optional>

#include "serving/config.pb.h"
#include "serving/core/loader.h"
#include "serving/servables/saved_model.h"
#include "serving/servables/warmup.h"

namespace tfipu::serving {

struct SavedModelLoaderOptions {
  SavedModelOptions saved_model;
  // Ordinary models are batched when set.
  std::optional<tensorflow::serving::BatchingParameters> batching;
  bool per_model_batching = false;  // a version's batching_params.pbtxt counts
  // Runs a recorded request; empty: no warm-up.
  Replay replay;
  int warm_up_iterations = 1;
  bool flush_file_system_caches = false;
};

// Reads the meta graph and the files that it names, batches, and warms up. The options outlive it.
std::unique_ptr<Loader> MakeSavedModelLoader(const VersionSource& source,
                                             const SavedModelLoaderOptions& options);

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_SAVED_MODEL_LOADER_H_
