// The file and the message that say which models a server serves.
#ifndef SERVING_SOURCES_MODEL_CONFIG_H_
#define SERVING_SOURCES_MODEL_CONFIG_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "serving/sources/file_system_source.h"
#include "tensorflow_serving/config/model_server_config.pb.h"

namespace tfipu::serving {

// A model of a checked config.
struct ConfiguredModel {
  WatchedModel watched;
  std::map<std::string, std::int64_t, std::less<>> labels;
  tensorflow::serving::LoggingConfig logging;
};

// Checks a config whole before any of it takes effect. InvalidArgument says that it lists no model, or names
// the model and the field: no name, a name twice, no base_path, a platform other than "tensorflow", specific
// without versions, custom_model_config. A relative base path is meant from the working directory.
absl::StatusOr<std::vector<ConfiguredModel>> CheckModelConfig(
    const tensorflow::serving::ModelServerConfig& config);

// Makes a local path absolute, also one written as a "file://" URL; others ("gs://...") stay.
std::string AbsolutePath(absl::string_view path);

}  // namespace tfipu::serving

#endif  // SERVING_SOURCES_MODEL_CONFIG_H_
