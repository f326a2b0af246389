#include "serving/core/manager.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "serving/base/memory_return.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {
namespace {

bool IsTransient(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsAborted(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsResourceExhausted(status);
}

}  // namespace

struct Manager::Version {
  VersionSource source;
  ServableStage stage = ServableStage::kStart;
  absl::Status status;
  bool wanted = true;
  bool waits_for_retry = false;
  int failures = 0;
  std::shared_ptr<const Servable> servable;  // while kAvailable

  // Holds or will hold memory.
  bool live() const { return stage != ServableStage::kStart && stage != ServableStage::kEnd; }
};

struct Manager::Model {
  std::vector<std::shared_ptr<Version>> versions;  // in order of arrival
  Labels labels;                                   // as set
  Labels labels_in_force;                          // as of the last snapshot
};

struct Manager::Snapshot {
  struct Entry {
    // Latest first. Weak, as threads that sleep must not keep what is being unloaded.
    std::vector<std::pair<std::int64_t, std::weak_ptr<const Servable>>> versions;
    Labels labels;
  };
  std::uint64_t number = 0;
  absl::flat_hash_map<std::string, Entry> models;
};

struct Manager::Aftermath {
  // Let go after the snapshot without them is published, so that Find() never ends in a gap.
  std::vector<std::shared_ptr<const Servable>> dropped;
};

Manager::Manager(ManagerOptions options, LoaderFactory loader_factory)
    : options_(std::move(options)), loader_factory_(std::move(loader_factory)) {
  unloads_ = std::make_unique<TaskQueue>("unload", options_.unload_threads);
  loads_ = std::make_unique<TaskQueue>("load", options_.load_threads);
  absl::MutexLock lock(&mutex_);
  Publish();
}

Manager::~Manager() { Stop(); }

void Manager::Aspire(absl::string_view name, std::vector<VersionSource> versions) {
  Change(name, [&](Model& model, Aftermath&) {
    if (stopped_) return;
    for (const auto& version : model.versions) version->wanted = false;
    for (VersionSource& source : versions) {
      std::shared_ptr<Version> known;
      for (auto& version : model.versions) {
        if (version->source.id.version != source.id.version) continue;
        if (version->live() && version->source.incarnation >= source.incarnation) {
          source.incarnation = version->source.incarnation + 1;
        }
        const bool failed = version->stage == ServableStage::kEnd && !version->status.ok();
        const bool reusable =
            version->stage < ServableStage::kUnloading || (failed && version->source.stamp == source.stamp);
        if (reusable && version->source.path == source.path) known = version;
      }
      if (known != nullptr) {
        known->wanted = true;
      } else {
        auto version = std::make_shared<Version>();
        version->source = std::move(source);
        model.versions.push_back(std::move(version));
      }
    }
  });
}

void Manager::SetLabels(absl::string_view name, Labels labels) {
  Change(name, [&](Model& model, Aftermath&) { model.labels = std::move(labels); });
}

Manager::Labels Manager::GetLabels(absl::string_view name) const {
  absl::MutexLock lock(&mutex_);
  const auto model = models_.find(name);
  if (model == models_.end()) return {};
  return model->second.labels;
}

bool Manager::WaitUntilSettled(const std::vector<std::string>& models, absl::Time deadline) const {
  absl::MutexLock lock(&mutex_);
  while (true) {
    bool settled = untold_.empty() && !telling_;
    for (const std::string& name : models) {
      const auto model = models_.find(name);
      if (model == models_.end()) continue;
      for (const auto& version : model->second.versions) {
        if (version->wanted && version->stage < ServableStage::kAvailable) settled = false;
      }
    }
    if (settled) return true;
    if (changed_.WaitWithDeadline(&mutex_, deadline)) return false;
  }
}

void Manager::WaitUntilTried() const {
  absl::MutexLock lock(&mutex_);
  const auto tried = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!untold_.empty() || telling_) return false;
    for (const auto& [name, model] : models_) {
      for (const auto& version : model.versions) {
        if (version->wanted && version->stage < ServableStage::kAvailable && !version->waits_for_retry)
          return false;
      }
    }
    return true;
  };
  while (!tried()) changed_.Wait(&mutex_);
}

bool Manager::IsAvailable(absl::string_view name, std::int64_t number) const {
  absl::MutexLock lock(&mutex_);
  const auto model = models_.find(name);
  if (model == models_.end()) return false;
  for (const auto& version : model->second.versions) {
    if (version->source.id.version == number && version->stage == ServableStage::kAvailable) return true;
  }
  return false;
}

void Manager::Stop() {
  Aftermath aftermath;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    for (auto& [name, model] : models_) {
      for (const auto& version : model.versions) version->wanted = false;
      Advance(name, model, aftermath);
    }
    Publish();
    changed_.SignalAll();
  }
  aftermath.dropped.clear();
  Tell();
  loads_->Stop();
  {
    absl::MutexLock lock(&mutex_);
    const auto live = [&] {
      for (const auto& [name, model] : models_) {
        for (const auto& version : model.versions) {
          if (version->live()) return true;
        }
      }
      return false;
    };
    while (live()) changed_.Wait(&mutex_);
  }
  unloads_->Stop();
  Tell();
}

void Manager::Change(absl::string_view name, const std::function<void(Model&, Aftermath&)>& change) {
  Aftermath aftermath;
  {
    absl::MutexLock lock(&mutex_);
    auto model = models_.find(name);
    if (model == models_.end()) model = models_.emplace(std::string(name), Model()).first;
    change(model->second, aftermath);
    Advance(model->first, model->second, aftermath);
    Forget(model->second);
    Publish();
    changed_.SignalAll();
  }
  aftermath.dropped.clear();
  Tell();
}

void Manager::Tell() {
  absl::MutexLock tell_lock(&tell_mutex_);
  while (true) {
    std::vector<ServableState> states;
    {
      absl::MutexLock lock(&mutex_);
      states.swap(untold_);
      telling_ = !states.empty();
      if (!telling_) {
        changed_.SignalAll();
        return;
      }
    }
    if (!options_.on_change) continue;
    for (const ServableState& state : states) options_.on_change(state);
  }
}

void Manager::SetStage(Version& version, ServableStage stage, absl::Status status, Aftermath& aftermath) {
  version.stage = stage;
  version.status = std::move(status);
  version.waits_for_retry = false;
  untold_.push_back({version.source.id, stage, version.status});
}

void Manager::Advance(const std::string& name, Model& model, Aftermath& aftermath) {
  bool any_wanted = false, wanted_available = false, unwanted_live = false;
  for (const auto& version : model.versions) {
    any_wanted |= version->wanted;
    wanted_available |= version->wanted && version->stage == ServableStage::kAvailable;
  }
  // A wanted incarnation of the same number that is not available yet.
  const auto awaits_successor = [&](const Version& version) {
    for (const auto& other : model.versions) {
      if (other->wanted && other->source.id.version == version.source.id.version) {
        return other->stage != ServableStage::kAvailable;
      }
    }
    return false;
  };
  for (const auto& version : model.versions) {
    if (version->wanted) continue;
    if (version->stage == ServableStage::kStart || version->waits_for_retry) {
      SetStage(*version, ServableStage::kEnd, version->status, aftermath);
    } else if (version->stage == ServableStage::kAvailable) {
      const bool keep = options_.transition == ManagerOptions::Transition::kPreserveAvailability &&
                        any_wanted && (!wanted_available || awaits_successor(*version));
      if (!keep) StartUnload(*version, aftermath);
    }
    unwanted_live |= version->live();
  }
  if (options_.transition == ManagerOptions::Transition::kPreserveResources && unwanted_live) return;
  for (const auto& version : model.versions) {
    if (version->wanted && version->stage == ServableStage::kStart) StartLoad(version, aftermath);
  }
}

void Manager::StartLoad(const std::shared_ptr<Version>& version, Aftermath& aftermath) {
  SetStage(*version, ServableStage::kLoading, absl::OkStatus(), aftermath);
  loads_->Add([this, version] { Load(version); });
}

void Manager::StartUnload(Version& version, Aftermath& aftermath) {
  SetStage(version, ServableStage::kUnloading, absl::OkStatus(), aftermath);
  aftermath.dropped.push_back(std::move(version.servable));
}

void Manager::Load(const std::shared_ptr<Version>& version) {
  const std::string& name = version->source.id.name;
  bool go_on = false;
  Change(name, [&](Model&, Aftermath& aftermath) {
    if (version->stage != ServableStage::kLoading) return;  // given up while it waited for another attempt
    version->waits_for_retry = false;
    go_on = version->wanted;
    if (!go_on) SetStage(*version, ServableStage::kEnd, version->status, aftermath);
  });
  if (!go_on) return;

  absl::StatusOr<std::unique_ptr<const Servable>> loaded = loader_factory_(version->source)->Load();

  Change(name, [&](Model&, Aftermath& aftermath) {
    if (loaded.ok()) {
      // The last holder, who may be a call, only hands the servable over to an unload thread.
      version->servable =
          std::shared_ptr<const Servable>(loaded->release(), [this, version](const Servable* servable) {
            unloads_->Add([this, version, servable] { Unload(version, servable); });
          });
      if (version->wanted) {
        SetStage(*version, ServableStage::kAvailable, absl::OkStatus(), aftermath);
      } else {
        StartUnload(*version, aftermath);
      }
      return;
    }
    ++version->failures;
    if (version->wanted && IsTransient(loaded.status()) && version->failures <= options_.max_load_retries &&
        !stopped_) {
      SetStage(*version, ServableStage::kLoading, loaded.status(), aftermath);
      version->waits_for_retry = true;
      loads_->Add([this, version] { Load(version); }, absl::Now() + options_.load_retry_interval);
      return;
    }
    SetStage(*version, ServableStage::kEnd, loaded.status(), aftermath);
  });
}

void Manager::Unload(const std::shared_ptr<Version>& version, const Servable* servable) {
  delete servable;
  Change(version->source.id.name, [&](Model&, Aftermath& aftermath) {
    SetStage(*version, ServableStage::kEnd, absl::OkStatus(), aftermath);
  });
  base::ReturnMemorySoon();
}

void Manager::Forget(Model& model) {
  auto& versions = model.versions;
  // Of those that ended and are not wanted, one for each number and the latest few.
  std::size_t ended = 0;
  bool all_ended = true;
  for (auto version = versions.rbegin(); version != versions.rend(); ++version) {
    Version& one = **version;
    all_ended &= one.stage == ServableStage::kEnd && !one.wanted;
    if (one.stage != ServableStage::kEnd || one.wanted) continue;
    const bool superseded =
        std::any_of(versions.rbegin(), version, [&](const std::shared_ptr<Version>& other) {
          return other != nullptr && other->source.id.version == one.source.id.version;
        });
    if (superseded || ++ended > kRememberedEnds) version->reset();
  }
  versions.erase(std::remove(versions.begin(), versions.end(), nullptr), versions.end());
  if (!all_ended || versions.empty()) return;
  const std::string& name = versions.front()->source.id.name;
  if (std::find(ended_models_.begin(), ended_models_.end(), name) != ended_models_.end()) return;
  ended_models_.push_back(name);
  while (ended_models_.size() > kRememberedModels) {
    const auto oldest = models_.find(ended_models_.front());
    ended_models_.pop_front();
    if (oldest == models_.end()) continue;
    const auto& known = oldest->second.versions;
    if (std::all_of(known.begin(), known.end(), [](const std::shared_ptr<Version>& version) {
          return version->stage == ServableStage::kEnd && !version->wanted;
        })) {
      models_.erase(oldest);
    }
  }
}

void Manager::Publish() {
  static std::atomic<std::uint64_t> last_number{0};
  auto snapshot = std::make_shared<Snapshot>();
  snapshot->number = ++last_number;
  for (auto& [name, model] : models_) {
    Snapshot::Entry entry;
    const auto available = [&entry](std::int64_t number) {
      return std::any_of(entry.versions.begin(), entry.versions.end(),
                         [&](const auto& version) { return version.first == number; });
    };
    for (const auto& version : model.versions) {
      if (version->stage == ServableStage::kAvailable) {
        entry.versions.emplace_back(version->source.id.version, version->servable);
      }
    }
    // Of two incarnations, the later comes first.
    std::reverse(entry.versions.begin(), entry.versions.end());
    std::stable_sort(entry.versions.begin(), entry.versions.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    entry.labels = model.labels;
    for (auto& [label, number] : entry.labels) {
      const auto before = model.labels_in_force.find(label);
      if (before != model.labels_in_force.end() && !available(number) && available(before->second)) {
        number = before->second;
      }
    }
    model.labels_in_force = entry.labels;
    snapshot->models.emplace(name, std::move(entry));
  }
  snapshot_ = std::move(snapshot);
  snapshot_number_.store(snapshot_->number, std::memory_order_release);
}

const Manager::Snapshot& Manager::Current() const {
  thread_local std::shared_ptr<const Snapshot> current;
  if (current == nullptr || current->number != snapshot_number_.load(std::memory_order_acquire)) {
    absl::MutexLock lock(&mutex_);
    current = snapshot_;
  }
  return *current;
}

absl::StatusOr<std::shared_ptr<const Servable>> Manager::Find(const ModelSpec& spec) const {
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
      if (model == snapshot.models.end() || model->second.labels.count(spec.label) == 0) {
        return absl::InvalidArgumentError(absl::StrCat("Unrecognized servable version label: ", spec.label));
      }
      number = model->second.labels.find(spec.label)->second;
    }
    if (model != snapshot.models.end()) {
      for (const auto& [available, weak] : model->second.versions) {
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

absl::StatusOr<std::vector<ServableState>> Manager::States(const ModelSpec& spec) const {
  absl::MutexLock lock(&mutex_);
  const auto model = models_.find(spec.name);
  if (model == models_.end() || model->second.versions.empty()) {
    return absl::NotFoundError(absl::StrCat("Could not find any versions of model ", spec.name));
  }
  std::optional<std::int64_t> number = spec.version;
  if (!spec.label.empty()) {
    const auto label = model->second.labels_in_force.find(spec.label);
    if (label == model->second.labels_in_force.end()) {
      return absl::InvalidArgumentError(absl::StrCat("Unrecognized servable version label: ", spec.label));
    }
    if (number.has_value() && *number != label->second) {
      return absl::InvalidArgumentError(absl::StrCat("Both version ", *number, " and version label '",
                                                     spec.label, "' of model ", spec.name,
                                                     " were asked for."));
    }
    number = label->second;
  }
  // Of several incarnations of a number the one that is served counts, else the latest.
  std::map<std::int64_t, const Version*, std::greater<>> by_number;
  for (const auto& version : model->second.versions) {
    if (number.has_value() && version->source.id.version != *number) continue;
    const Version*& chosen = by_number[version->source.id.version];
    if (chosen == nullptr || chosen->stage != ServableStage::kAvailable) chosen = version.get();
  }
  if (by_number.empty()) {
    return absl::NotFoundError(absl::StrCat("Could not find version ", *number, " of model ", spec.name));
  }
  std::vector<ServableState> states;
  for (const auto& [_, version] : by_number)
    states.push_back({version->source.id, version->stage, version->status});
  return states;
}

std::vector<ServableState> Manager::AllStates() const {
  absl::MutexLock lock(&mutex_);
  std::vector<ServableState> states;
  for (const auto& [name, model] : models_) {
    for (const auto& version : model.versions) {
      states.push_back({version->source.id, version->stage, version->status});
    }
  }
  return states;
}

}  // namespace tfipu::serving
