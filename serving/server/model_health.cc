#include "serving/server/model_health.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace tfipu::serving {
namespace {

const char* const kServices[] = {"", "tensorflow.serving.PredictionService",
                                 "tensorflow.serving.ModelService", "PredictionService", "ModelService"};

bool IsService(const std::string& name) {
  return std::find(std::begin(kServices), std::end(kServices), name) != std::end(kServices);
}

}  // namespace

void ModelHealth::Start(Setter setter) {
  absl::MutexLock lock(&mutex_);
  setter_ = std::move(setter);
  told_.clear();
  Refresh();
}

void ModelHealth::SetModels(std::vector<std::string> models) {
  absl::MutexLock lock(&mutex_);
  models_ = std::move(models);
  Refresh();
}

void ModelHealth::Update() {
  absl::MutexLock lock(&mutex_);
  Refresh();
}

void ModelHealth::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
  Refresh();
}

void ModelHealth::Set(const std::string& service, bool healthy) {
  const auto told = told_.find(service);
  if (told != told_.end() && told->second == healthy) return;
  told_[service] = healthy;
  setter_(service, healthy);
}

void ModelHealth::Refresh() {
  if (!setter_) return;
  std::set<std::string> available, unsettled;
  for (const ServableState& state : directory_->AllStates()) {
    if (state.stage == ServableStage::kAvailable) available.insert(state.id.name);
    if (!state.tried()) unsettled.insert(state.id.name);
  }
  bool settled = true;
  for (const std::string& model : models_)
    settled &= available.count(model) > 0 || unsettled.count(model) == 0;
  was_healthy_ = !available.empty() && (settled || was_healthy_);
  for (const char* const service : kServices) Set(service, was_healthy_ && !stopped_);
  std::set<std::string> models(models_.begin(), models_.end());
  for (const auto& [service, _] : told_) {
    if (!IsService(service)) models.insert(service);
  }
  // A model of a service's name is asked for as the service.
  for (const std::string& model : models) {
    if (!IsService(model)) Set(model, available.count(model) > 0 && !stopped_);
  }
}

}  // namespace tfipu::serving
