#include "serving/sources/config_source.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "cc/base/status_macros.h"
#include "serving/core/log.h"
#include "serving/core/text_proto.h"

namespace tfipu::serving {

using tensorflow::serving::ModelServerConfig;

ConfigSource::ConfigSource(ConfigSourceOptions options, Manager* manager)
    : options_(std::move(options)),
      manager_(manager),
      folders_(options_.never_look ? absl::ZeroDuration() : options_.poll_interval,
               [manager](absl::string_view model, std::vector<VersionSource> versions,
                         std::vector<VersionSource> spares) {
                 manager->Aspire(model, std::move(versions), std::move(spares));
               }) {}

ConfigSource::~ConfigSource() = default;

void ConfigSource::Stop() {
  if (file_poller_ != nullptr) file_poller_->Stop();
  folders_.Stop();
}

absl::Status ConfigSource::Start(const ModelServerConfig& config) {
  absl::MutexLock lock(&mutex_);
  return Apply(config, /*first=*/true);
}

absl::Status ConfigSource::Reload(const ModelServerConfig& config) {
  absl::MutexLock lock(&mutex_);
  const absl::Status status = Apply(config, /*first=*/false);
  if (status.ok()) file_is_pending_ = false;
  return status;
}

absl::Status ConfigSource::StartFromFile(const std::string& path, absl::Duration interval) {
  {
    absl::MutexLock lock(&mutex_);
    TFIPU_ASSIGN_OR_RETURN(file_text_, ReadTextFile(path));
    ModelServerConfig config;
    TFIPU_RETURN_IF_ERROR(ParseTextProto(file_text_, path, &config));
    TFIPU_RETURN_IF_ERROR(Apply(config, /*first=*/true));
  }
  if (interval <= absl::ZeroDuration()) return absl::OkStatus();
  file_poller_ = std::make_unique<PeriodicThread>("poll-config", interval, [this, path] { PollFile(path); });
  return absl::OkStatus();
}

void ConfigSource::PollFile(const std::string& path) {
  absl::MutexLock lock(&mutex_);
  absl::StatusOr<std::string> text = ReadTextFile(path);
  absl::Status status = text.status();
  if (status.ok()) {
    const bool has_changed = *text != file_text_;
    if (!has_changed && !file_is_pending_) return;
    if (has_changed) file_complaint_.clear();
    file_text_ = *std::move(text);
    ModelServerConfig config;
    status = ParseTextProto(file_text_, path, &config);
    if (status.ok()) status = Apply(config, /*first=*/false);
    file_is_pending_ = !status.ok() && !absl::IsInvalidArgument(status);
    if (status.ok()) LogInfo("The model config ", path, " has changed and is in effect.");
  }
  if (absl::IsCancelled(status)) return;
  if (status.ok() || file_complaint_ == status.message()) return;
  file_complaint_ = std::string(status.message());
  LogError("The model config ", path, " has changed and is not fully in effect: ", status.message(),
           file_is_pending_ ? "; it is applied again until it is." : "");
}

absl::Status ConfigSource::Apply(const ModelServerConfig& config, bool first) {
  std::vector<ConfiguredModel> models;
  if (first && config.has_model_config_list() && config.model_config_list().config().empty()) {
    LogWarning("The model config lists no model: waiting for one that does.");
  } else {
    TFIPU_ASSIGN_OR_RETURN(models, CheckModelConfig(config));
  }
  if (options_.check) TFIPU_RETURN_IF_ERROR(options_.check(models));
  if (options_.on_config) options_.on_config(models);
  std::vector<WatchedModel> watched;
  std::vector<std::string> names;
  std::map<std::string, Manager::Labels> labels_before;
  for (const ConfiguredModel& model : models) {
    const std::string& name = model.watched.name;
    watched.push_back(model.watched);
    names.push_back(name);
    labels_before[name] = manager_->GetLabels(name);
    // Ahead of the versions, so that a label moves in the moment in which its new version is available.
    manager_->SetLabels(name, model.labels);
  }
  for (const std::string& name : models_) {
    if (std::find(names.begin(), names.end(), name) == names.end()) manager_->SetLabels(name, {});
  }
  const std::vector<std::string> models_before = std::move(models_);
  models_ = names;
  folders_.Watch(std::move(watched), !options_.never_look);
  if (first) return absl::OkStatus();

  const absl::Time deadline = absl::Now() + options_.reload_timeout;
  if (!manager_->WaitUntilSettled(names, deadline)) {
    if (absl::Now() < deadline) return absl::CancelledError("The server is shutting down.");
    return absl::DeadlineExceededError(absl::StrCat("The new model config is in effect, but after ",
                                                    absl::FormatDuration(options_.reload_timeout),
                                                    " not all of its models are loaded."));
  }
  for (const ConfiguredModel& model : models) {
    const std::string& name = model.watched.name;
    const Manager::Labels& before = labels_before[name];
    for (const auto& [label, version] : model.labels) {
      const auto old = before.find(label);
      const bool unchanged = old != before.end() && old->second == version;
      const bool allowed = options_.labels_for_unavailable_versions && old == before.end();
      if (unchanged || allowed || manager_->IsAvailable(name, version)) continue;
      for (const auto& [other, labels] : labels_before) manager_->SetLabels(other, labels);
      return absl::FailedPreconditionError(absl::StrCat("Request to assign label '", label, "' to version ",
                                                        version, " of model ", name,
                                                        ", which is not currently available for inference"));
    }
  }
  std::vector<std::string> added;
  for (const std::string& name : names) {
    if (std::find(models_before.begin(), models_before.end(), name) == models_before.end())
      added.push_back(name);
  }
  return options_.never_look ? absl::OkStatus() : CheckAvailable(added);
}

absl::Status ConfigSource::CheckAvailable(const std::vector<std::string>& models) const {
  std::vector<std::string> missing;
  for (const std::string& name : models) {
    const ModelSpec spec{name, std::nullopt, ""};
    if (manager_->Find(spec).ok()) continue;
    std::string reason = "no version was found";
    if (const auto states = manager_->States(spec); states.ok() && !states->empty()) {
      const ServableState& latest = states->front();
      reason = absl::StrCat("version ", latest.id.version, ": ", latest.status.message());
    }
    missing.push_back(absl::StrCat(name, " (", reason, ")"));
  }
  if (missing.empty()) return absl::OkStatus();
  return absl::UnknownError(
      absl::StrCat("The new model config is in effect, but some models did not become available: ",
                   absl::StrJoin(missing, ", ")));
}

}  // namespace tfipu::serving
