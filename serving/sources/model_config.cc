#include "serving/sources/model_config.h"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/local_file.h"
#include "cc/base/status_macros.h"
#include "tensorflow/core/platform/path.h"

namespace tfipu::serving {
namespace {

using tensorflow::serving::ModelConfig;
using tensorflow::serving::ModelServerConfig;

absl::StatusOr<VersionPolicy> PolicyFrom(const ModelConfig& config) {
  VersionPolicy policy;
  const auto& proto = config.model_version_policy();
  if (proto.has_all()) {
    policy.kind = VersionPolicy::Kind::kAll;
  } else if (proto.has_specific()) {
    policy.kind = VersionPolicy::Kind::kSpecific;
    policy.versions.insert(proto.specific().versions().begin(), proto.specific().versions().end());
    if (policy.versions.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("Model ", config.name(),
                       ": model_version_policy is specific but names no version; expected at least one."));
    }
  } else if (proto.has_latest()) {
    // Not set means 1.
    policy.count = static_cast<int>(
        std::clamp<std::uint32_t>(proto.latest().num_versions(), 1, std::numeric_limits<int>::max()));
  }
  return policy;
}

}  // namespace

std::string AbsolutePath(absl::string_view path) {
  std::string local = LocalPath(path);
  if (local.empty() || local[0] == '/' || IsRemotePath(path)) return local;
  char folder[4096];
  if (getcwd(folder, sizeof(folder)) == nullptr) return local;
  return tensorflow::io::JoinPath(folder, local);
}

absl::StatusOr<std::vector<ConfiguredModel>> CheckModelConfig(const ModelServerConfig& config) {
  if (config.has_custom_model_config()) {
    return absl::InvalidArgumentError(
        "The model config has custom_model_config, which this server does not know; expected "
        "model_config_list.");
  }
  if (config.model_config_list().config().empty()) {
    return absl::InvalidArgumentError("The model config lists no model; expected at least one.");
  }
  std::vector<ConfiguredModel> models;
  std::set<std::string> names;
  for (const ModelConfig& proto : config.model_config_list().config()) {
    if (proto.name().empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("Model number ", models.size() + 1, " of the model config has no name."));
    }
    if (!names.insert(proto.name()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("Model ", proto.name(), " is in the model config twice."));
    }
    if (proto.base_path().empty()) {
      return absl::InvalidArgumentError(absl::StrCat("Model ", proto.name(), " has no base_path."));
    }
    if (!proto.model_platform().empty() && proto.model_platform() != "tensorflow") {
      return absl::InvalidArgumentError(absl::StrCat("Model ", proto.name(), ": found model_platform \"",
                                                     proto.model_platform(), "\", expected \"tensorflow\"."));
    }
    ConfiguredModel model;
    model.watched.name = proto.name();
    model.watched.base_path = AbsolutePath(proto.base_path());
    if (model.watched.base_path.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("Model ", proto.name(), ": found base_path \"",
                                                     proto.base_path(), "\", expected file:///path."));
    }
    TFIPU_ASSIGN_OR_RETURN(model.watched.policy, PolicyFrom(proto));
    model.labels.insert(proto.version_labels().begin(), proto.version_labels().end());
    model.logging = proto.logging_config();
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace tfipu::serving
