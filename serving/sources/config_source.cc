#include "serving/sources/config_source.h"

#include <pthread.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "cc/base/status_macros.h"
#include "serving/core/log.h"
#include "tensorflow/core/platform/env.h"

namespace tfipu::serving {

using tensorflow::serving::ModelServerConfig;

ConfigSource::ConfigSource(ConfigSourceOptions options, Manager* manager)
    : options_(std::move(options)),
      manager_(manager),
      folders_(options_.never_look ? absl::ZeroDuration() : options_.poll_interval,
               [manager](absl::string_view model, std::vector<VersionSource> versions) {
                 manager->Aspire(model, std::move(versions));
               }) {}

ConfigSource::~ConfigSource() {
  {
    absl::MutexLock lock(&stop_mutex_);
    stopped_ = true;
  }
  if (file_poller_.joinable()) file_poller_.join();
}

absl::Status ConfigSource::Start(const ModelServerConfig& config) {
  absl::MutexLock lock(&mutex_);
  return Apply(config, /*first=*/true);
}

absl::Status ConfigSource::Reload(const ModelServerConfig& config) {
  absl::MutexLock lock(&mutex_);
  return Apply(config, /*first=*/false);
}

absl::Status ConfigSource::StartFromFile(const std::string& path, absl::Duration interval) {
  {
    absl::MutexLock lock(&mutex_);
    TFIPU_RETURN_IF_ERROR(tensorflow::ReadFileToString(tensorflow::Env::Default(), path, &file_text_));
    ModelServerConfig config;
    TFIPU_RETURN_IF_ERROR(ParseTextProto(file_text_, path, &config));
    TFIPU_RETURN_IF_ERROR(Apply(config, /*first=*/true));
  }
  if (interval <= absl::ZeroDuration()) return absl::OkStatus();
  file_poller_ = std::thread([this, path, interval] {
    while (true) {
      {
        absl::MutexLock lock(&stop_mutex_);
        if (stop_mutex_.AwaitWithTimeout(absl::Condition(&stopped_), interval)) return;
      }
      PollFile(path);
    }
  });
  pthread_setname_np(file_poller_.native_handle(), "poll-config");
  return absl::OkStatus();
}

void ConfigSource::PollFile(const std::string& path) {
  absl::MutexLock lock(&mutex_);
  std::string text;
  absl::Status status = tensorflow::ReadFileToString(tensorflow::Env::Default(), path, &text);
  if (status.ok()) {
    if (text == file_text_) return;
    file_text_ = text;
    ModelServerConfig config;
    status = ParseTextProto(text, path, &config);
    if (status.ok()) status = Apply(config, /*first=*/false);
    file_complaint_.clear();
    if (status.ok()) LogInfo("The model config ", path, " has changed and is in effect.");
  }
  if (status.ok() || file_complaint_ == status.message()) return;
  file_complaint_ = std::string(status.message());
  LogError("The model config ", path, " has changed and is not fully in effect: ", status.message());
}

absl::Status ConfigSource::Apply(const ModelServerConfig& config, bool first) {
  TFIPU_ASSIGN_OR_RETURN(const std::vector<ConfiguredModel> models, CheckModelConfig(config));
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

  if (!manager_->WaitUntilSettled(names, absl::Now() + options_.reload_timeout)) {
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
