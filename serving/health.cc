#include "serving/health.h"

#include <utility>

namespace tfipu::serving {
namespace {

const char* const kServices[] = {"", "tensorflow.serving.PredictionService",
                                 "tensorflow.serving.ModelService"};

}  // namespace

void Health::Start(Setter setter) {
  absl::MutexLock lock(&mutex_);
  setter_ = std::move(setter);
  told_.clear();
  Refresh();
}

void Health::SetModels(std::vector<std::string> models) {
  absl::MutexLock lock(&mutex_);
  models_ = std::move(models);
  Refresh();
}

void Health::Update() {
  absl::MutexLock lock(&mutex_);
  Refresh();
}

void Health::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
  Refresh();
}

void Health::Set(const std::string& service, bool healthy) {
  const auto told = told_.find(service);
  if (told != told_.end() && told->second == healthy) return;
  told_[service] = healthy;
  setter_(service, healthy);
}

void Health::Refresh() {
  if (!setter_) return;
  std::set<std::string> available, unsettled;
  for (const ServableState& state : directory_->AllStates()) {
    if (state.stage == ServableStage::kAvailable) available.insert(state.id.name);
    if (state.stage < ServableStage::kAvailable) unsettled.insert(state.id.name);
  }
  bool settled = true;
  for (const std::string& model : models_)
    settled &= available.count(model) > 0 || unsettled.count(model) == 0;
  was_healthy_ = !available.empty() && (settled || was_healthy_);
  for (const char* const service : kServices) Set(service, was_healthy_ && !stopped_);
  std::set<std::string> models(models_.begin(), models_.end());
  for (const auto& [service, _] : told_) {
    if (models.count(service) == 0 && service != kServices[0] && service != kServices[1] &&
        service != kServices[2]) {
      models.insert(service);
    }
  }
  for (const std::string& model : models) Set(model, available.count(model) > 0 && !stopped_);
}

}  // namespace tfipu::serving
