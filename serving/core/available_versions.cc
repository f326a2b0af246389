#include "serving/core/available_versions.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace tfipu::serving {
namespace {

bool Same(const AvailableVersions::Model& a, const AvailableVersions::Model& b) {
  return a.labels == b.labels && std::equal(a.versions.begin(), a.versions.end(), b.versions.begin(),
                                            b.versions.end(), [](const auto& one, const auto& other) {
                                              return one.first == other.first &&
                                                     !one.second.owner_before(other.second) &&
                                                     !other.second.owner_before(one.second);
                                            });
}

}  // namespace

struct AvailableVersions::Snapshot {
  std::uint64_t number = 0;
  absl::flat_hash_map<std::string, std::shared_ptr<const Model>> models;
};

AvailableVersions::AvailableVersions() {
  absl::MutexLock lock(&mutex_);
  Publish(std::make_shared<Snapshot>());
}

void AvailableVersions::Publish(std::shared_ptr<Snapshot> snapshot) {
  static std::atomic<std::uint64_t> last_number{0};
  snapshot->number = ++last_number;
  snapshot_number_.store(snapshot->number, std::memory_order_release);
  snapshot_ = std::move(snapshot);
}

void AvailableVersions::Set(const std::string& name, Model model) {
  static const Model nothing;
  absl::MutexLock lock(&mutex_);
  const auto before = snapshot_->models.find(name);
  if (Same(before == snapshot_->models.end() ? nothing : *before->second, model)) return;
  auto snapshot = std::make_shared<Snapshot>(*snapshot_);
  if (Same(nothing, model)) {
    snapshot->models.erase(name);
  } else {
    snapshot->models[name] = std::make_shared<const Model>(std::move(model));
  }
  Publish(std::move(snapshot));
}

const AvailableVersions::Snapshot& AvailableVersions::Current() const {
  thread_local std::shared_ptr<const Snapshot> current;
  if (current == nullptr || current->number != snapshot_number_.load(std::memory_order_acquire)) {
    absl::MutexLock lock(&mutex_);
    current = snapshot_;
  }
  return *current;
}

absl::StatusOr<std::shared_ptr<const Servable>> AvailableVersions::Find(const ModelSpec& spec) const {
  if (spec.name.empty()) return absl::InvalidArgumentError("ModelSpec has no name specified.");
  if (spec.version.has_value() && !spec.label.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("Both version ", *spec.version, " and version label '",
                                                   spec.label, "' of model ", spec.name,
                                                   " were asked for; a request names one or neither."));
  }
  while (true) {
    const Snapshot& snapshot = Current();
    const auto model = snapshot.models.find(spec.name);
    std::optional<std::int64_t> number = spec.version;
    if (!spec.label.empty()) {
      if (model == snapshot.models.end() || model->second->labels.count(spec.label) == 0) {
        return absl::InvalidArgumentError(absl::StrCat("Unrecognized servable version label: ", spec.label));
      }
      number = model->second->labels.find(spec.label)->second;
    }
    if (model != snapshot.models.end()) {
      for (const auto& [available, weak] : model->second->versions) {
        if (number.has_value() && available != *number) continue;
        if (std::shared_ptr<const Servable> servable = weak.lock()) return servable;
      }
    }
    // What a newer snapshot has dropped may have gone while this one was read.
    if (snapshot.number != snapshot_number_.load(std::memory_order_acquire)) continue;
    return absl::NotFoundError(
        number.has_value()
            ? absl::StrCat("Servable not found for request: Specific(", spec.name, ", ", *number, ")")
            : absl::StrCat("Servable not found for request: Latest(", spec.name, ")"));
  }
}

}  // namespace tfipu::serving
