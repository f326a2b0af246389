#include "serving/core/managed_model.h"

#include <algorithm>
#include <utility>

namespace tfipu::serving {

std::shared_ptr<ManagedVersion> ManagedModel::Known(const VersionSource& source) const {
  std::shared_ptr<ManagedVersion> known;
  for (const auto& version : versions) {
    if (version->source.id.version != source.id.version || version->source.path != source.path) continue;
    const bool same_files = version->source.stamp == source.stamp;
    bool usable = false;
    switch (version->stage) {
      case ServableStage::kStart:
        usable = true;
        break;
      case ServableStage::kLoading:
        usable = version->wait != ServableWait::kHungLoad || same_files;
        break;
      case ServableStage::kAvailable:
        usable = version->source.contents == source.contents;
        break;
      case ServableStage::kUnloading:
        break;
      case ServableStage::kEnd:
        usable = version->failed() && same_files;
        break;
    }
    if (usable) known = version;
  }
  return known;
}

ManagedVersion& ManagedModel::Want(VersionSource source) {
  std::shared_ptr<ManagedVersion> version = Known(source);
  if (version == nullptr) {
    for (const auto& other : versions) {
      if (other->source.id.version == source.id.version && other->live()) {
        source.incarnation = std::max(source.incarnation, other->source.incarnation + 1);
      }
    }
    version = std::make_shared<ManagedVersion>();
    version->source = std::move(source);
    versions.push_back(version);
  } else if (version->wait == ServableWait::kFiles &&
             (source.stamp.empty() || source.stamp != version->source.stamp)) {
    source.incarnation = version->source.incarnation;
    version->source = std::move(source);
    version->wait = ServableWait::kNothing;
  }
  version->wanted = true;
  return *version;
}

void ManagedModel::ChooseSpares() {
  auto missing = std::count_if(versions.begin(), versions.end(), [](const auto& version) {
    return version->wanted && !version->stands_in && version->cannot_serve();
  });
  for (const auto& version : versions) {
    if (version->stands_in) version->wanted = version->stands_in = false;
  }
  for (const VersionSource& spare : spares) {
    if (missing == 0) return;
    ManagedVersion& version = Want(spare);
    version.stands_in = true;
    if (!version.cannot_serve()) --missing;
  }
}

AvailableVersions::Model ManagedModel::Available() {
  AvailableVersions::Model found;
  for (const auto& version : versions) {
    if (version->stage == ServableStage::kAvailable) {
      found.versions.emplace_back(version->source.id.version, version->servable);
    }
  }
  // Of two incarnations, the later comes first.
  std::reverse(found.versions.begin(), found.versions.end());
  std::stable_sort(found.versions.begin(), found.versions.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  const auto available = [&](std::int64_t number) {
    return std::any_of(found.versions.begin(), found.versions.end(),
                       [&](const auto& version) { return version.first == number; });
  };
  found.labels = labels;
  for (auto& [label, number] : found.labels) {
    const auto before = labels_in_force.find(label);
    if (before != labels_in_force.end() && !available(number) && available(before->second)) {
      number = before->second;
    }
  }
  labels_in_force = found.labels;
  return found;
}

bool ManagedModel::ForgetEnded(std::size_t most) {
  std::size_t ended = 0;
  for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
    ManagedVersion& one = **version;
    if (one.stage != ServableStage::kEnd || one.wanted) continue;
    const bool superseded = std::any_of(versions.rbegin(), version, [&](const auto& other) {
      return other != nullptr && other->source.id.version == one.source.id.version;
    });
    if (superseded || ++ended > most) version->reset();
  }
  versions.erase(std::remove(versions.begin(), versions.end(), nullptr), versions.end());
  return HasEnded();
}

bool ManagedModel::HasEnded() const {
  return !versions.empty() && std::all_of(versions.begin(), versions.end(), [](const auto& version) {
    return version->stage == ServableStage::kEnd && !version->wanted;
  });
}

}  // namespace tfipu::serving
