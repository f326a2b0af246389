#include "serving/servables/saved_model_loader.h"

#include <utility>

#include "cc/base/status_macros.h"
#include "serving/batching/batching_options.h"
#include "serving/batching/batching_servable.h"
#include "serving/servables/saved_model_files.h"
#include "tensorflow/core/platform/env.h"

namespace tfipu::serving {
namespace {

class SavedModelLoader : public Loader {
 public:
  SavedModelLoader(const VersionSource& source, const SavedModelLoaderOptions& options)
      : source_(source), options_(options) {}

  absl::Status CheckWhole() override {
    TFIPU_RETURN_IF_ERROR(CheckGraphFile(source_.path));
    TFIPU_ASSIGN_OR_RETURN(meta_graph_, ReadMetaGraph(source_.path, options_.saved_model));
    return CheckFilesOf(meta_graph_, source_.path);
  }

  absl::StatusOr<std::unique_ptr<const Servable>> Load() override {
    TFIPU_ASSIGN_OR_RETURN(
        std::unique_ptr<const Servable> servable,
        LoadSavedModelServable(source_, options_.saved_model, std::exchange(meta_graph_, {})));
    if (options_.batching.has_value() && !servable->UsesDevice()) {
      tensorflow::serving::BatchingParameters parameters = *options_.batching;
      if (options_.per_model_batching) {
        TFIPU_ASSIGN_OR_RETURN(parameters, ModelBatchingParameters(parameters, source_.path));
      }
      TFIPU_ASSIGN_OR_RETURN(const BatchingOptions batching, BatchingOptionsFrom(parameters));
      servable = MakeBatchingServable(std::move(servable), batching);
    }
    if (options_.replay) {
      TFIPU_RETURN_IF_ERROR(WarmUp(*servable, source_.path, options_.warm_up_iterations, options_.replay));
    }
    if (options_.flush_file_system_caches) {
      tensorflow::Env::Default()->FlushFileSystemCaches().IgnoreError();
    }
    return servable;
  }

 private:
  const VersionSource source_;
  const SavedModelLoaderOptions& options_;
  tensorflow::MetaGraphDef meta_graph_;  // from CheckWhole() to Load()
};

}  // namespace

std::unique_ptr<Loader> MakeSavedModelLoader(const VersionSource& source,
                                             const SavedModelLoaderOptions& options) {
  return std::make_unique<SavedModelLoader>(source, options);
}

}  // namespace tfipu::serving
