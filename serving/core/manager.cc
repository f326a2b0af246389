#include "serving/core/manager.h"

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "serving/base/memory_return.h"
#include "serving/core/log.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {
namespace {

bool IsTransient(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsAborted(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsResourceExhausted(status);
}

}  // namespace

struct Manager::Aftermath {
  // Let go after the snapshot without them is published, so that Find() never ends in a gap.
  std::vector<std::shared_ptr<const Servable>> dropped;
};

Manager::Manager(ManagerOptions options, LoaderFactory loader_factory)
    : options_(std::move(options)),
      loader_factory_(std::move(loader_factory)),
      unloads_("unload", options_.unload_threads),
      loads_("load", options_.load_threads),
      watch_("load-watch", 1) {}

Manager::~Manager() { Stop(); }

void Manager::Aspire(absl::string_view name, std::vector<VersionSource> versions,
                     std::vector<VersionSource> spares) {
  Change(name, [&](Model& model, Aftermath&) {
    if (stopped_) return;
    for (const auto& version : model.versions) version->wanted = version->stands_in = false;
    for (VersionSource& source : versions) model.Want(std::move(source));
    model.spares = std::move(spares);
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

bool Manager::AllWanted(const std::vector<std::string>* models, bool (*is_so)(const Version&)) const {
  if (!untold_.empty() || telling_) return false;
  const auto all = [&](const Model& model) {
    return std::all_of(model.versions.begin(), model.versions.end(),
                       [&](const auto& version) { return !version->wanted || is_so(*version); });
  };
  if (models == nullptr) {
    return std::all_of(models_.begin(), models_.end(), [&](const auto& entry) { return all(entry.second); });
  }
  return std::all_of(models->begin(), models->end(), [&](const std::string& name) {
    const auto model = models_.find(name);
    return model == models_.end() || all(model->second);
  });
}

bool Manager::WaitUntilSettled(const std::vector<std::string>& models, absl::Time deadline) const {
  absl::MutexLock lock(&mutex_);
  while (!stopped_) {
    if (AllWanted(&models, [](const Version& version) {
          return version.state().tried() && version.wait != ServableWait::kRetry;
        })) {
      return true;
    }
    if (changed_.WaitWithDeadline(&mutex_, deadline)) return false;
  }
  return false;
}

void Manager::WaitUntilTried() const {
  absl::MutexLock lock(&mutex_);
  while (!stopped_ && !AllWanted(nullptr, [](const Version& version) { return version.state().tried(); })) {
    changed_.Wait(&mutex_);
  }
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

void Manager::StopLoading() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
  changed_.SignalAll();
}

bool Manager::Stop(absl::Time loads_deadline) {
  StopLoading();
  Aftermath aftermath;
  {
    absl::MutexLock lock(&mutex_);
    for (auto& [name, model] : models_) {
      model.spares.clear();
      for (const auto& version : model.versions) version->wanted = version->stands_in = false;
      Advance(model, aftermath);
      available_.Set(name, model.Available());
    }
  }
  aftermath.dropped.clear();
  Tell();
  watch_.Stop();
  const bool loads_ended = loads_.Stop(loads_deadline);
  {
    absl::MutexLock lock(&mutex_);
    const auto live = [&] {
      for (const auto& [name, model] : models_) {
        for (const auto& version : model.versions) {
          // Loads that did not end are nobody's to wait for.
          if (version->live() && version->stage != ServableStage::kLoading) return true;
        }
      }
      return false;
    };
    while (live()) changed_.Wait(&mutex_);
  }
  // What is loaded after all still needs them.
  if (loads_ended) unloads_.Stop();
  Tell();
  return loads_ended;
}

void Manager::Change(absl::string_view name, const std::function<void(Model&, Aftermath&)>& change) {
  Aftermath aftermath;
  {
    absl::MutexLock lock(&mutex_);
    auto model = models_.find(name);
    if (model == models_.end()) model = models_.emplace(std::string(name), Model()).first;
    change(model->second, aftermath);
    Advance(model->second, aftermath);
    available_.Set(model->first, model->second.Available());
    Forget(model->first, model->second);
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

void Manager::SetStage(Version& version, ServableStage stage, absl::Status status, ServableWait wait) {
  version.stage = stage;
  version.status = std::move(status);
  version.wait = wait;
  version.whole = false;
  untold_.push_back(version.state());
}

void Manager::Advance(Model& model, Aftermath& aftermath) {
  model.ChooseSpares();
  UnloadUnwanted(model, aftermath);
  if (!stopped_) StartLoads(model);
}

void Manager::UnloadUnwanted(Model& model, Aftermath& aftermath) {
  bool any_wanted = false, wanted_available = false, wanted_whole = false;
  for (const auto& version : model.versions) {
    any_wanted |= version->wanted;
    wanted_available |= version->wanted && version->stage == ServableStage::kAvailable;
    wanted_whole |= version->wanted && version->whole;
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
  const bool resources = options_.transition == ManagerOptions::Transition::kPreserveResources;
  for (const auto& version : model.versions) {
    if (version->wanted) continue;
    if (version->stage == ServableStage::kStart || version->wait == ServableWait::kRetry) {
      SetStage(*version, ServableStage::kEnd, version->status);
    } else if (version->stage == ServableStage::kAvailable) {
      const bool keep =
          any_wanted && (!wanted_available || awaits_successor(*version)) && !(resources && wanted_whole);
      if (!keep) StartUnload(*version, aftermath);
    }
  }
}

void Manager::StartLoads(Model& model) {
  bool unwanted_live = false;
  for (const auto& version : model.versions) {
    unwanted_live |= !version->wanted && version->live() && version->wait != ServableWait::kHungLoad;
  }
  const bool resources = options_.transition == ManagerOptions::Transition::kPreserveResources;
  for (const auto& version : model.versions) {
    const bool waits = version->wait != ServableWait::kNothing || version->checking;
    if (!version->wanted || version->stage != ServableStage::kStart || waits) continue;
    if (!resources || !unwanted_live) {
      SetStage(*version, ServableStage::kLoading, absl::OkStatus());
      loads_.Add([this, version] { Load(version); });
    } else if (!version->whole) {
      // What is served makes room for what can be loaded only.
      version->checking = true;
      loads_.Add([this, version] { CheckWhole(version); });
    }
  }
}

void Manager::StartUnload(Version& version, Aftermath& aftermath) {
  SetStage(version, ServableStage::kUnloading, absl::OkStatus());
  aftermath.dropped.push_back(std::move(version.servable));
}

template <typename Result, typename Work>
Result Manager::RunLoader(const std::shared_ptr<Version>& version, const Work& work) {
  std::uint64_t run;
  {
    absl::MutexLock lock(&mutex_);
    run = version->run = ++last_run_;
  }
  if (options_.load_timeout < absl::InfiniteDuration()) {
    watch_.Add([this, version, run] { ReportHung(version, run); }, absl::Now() + options_.load_timeout);
  }
  Result result = [&]() -> Result {
    try {
      return work(*loader_factory_(version->source));
    } catch (const std::bad_alloc&) {
      return absl::ResourceExhaustedError("There is no memory to load it.");
    } catch (const std::exception& error) {
      return absl::ResourceExhaustedError(absl::StrCat("It could not be loaded: ", error.what()));
    }
  }();
  absl::MutexLock lock(&mutex_);
  version->run = 0;
  if (version->has_extra_thread) loads_.RemoveThread();
  version->has_extra_thread = false;
  return result;
}

void Manager::ReportHung(const std::shared_ptr<Version>& version, std::uint64_t run) {
  Change(version->source.id.name, [&](Model&, Aftermath&) {
    if (version->run != run) return;
    SetStage(*version, version->stage,
             absl::DeadlineExceededError(absl::StrCat("It has been loading for more than ",
                                                      absl::FormatDuration(options_.load_timeout),
                                                      " and may hang.")),
             ServableWait::kHungLoad);
    version->has_extra_thread = true;
    loads_.AddThread();
  });
}

void Manager::CheckWhole(const std::shared_ptr<Version>& version) {
  const absl::Status status =
      RunLoader<absl::Status>(version, [](Loader& loader) { return loader.CheckWhole(); });
  Change(version->source.id.name, [&](Model&, Aftermath&) {
    version->checking = false;
    if (version->stage != ServableStage::kStart) return;  // not wanted any more
    version->wait = ServableWait::kNothing;
    // What is wrong otherwise, the load says.
    version->whole = !IsNotWhole(status);
    if (!version->whole) SetStage(*version, ServableStage::kStart, status, ServableWait::kFiles);
  });
}

void Manager::Load(const std::shared_ptr<Version>& version) {
  bool go_on = false;
  Change(version->source.id.name, [&](Model&, Aftermath&) {
    if (version->stage != ServableStage::kLoading) return;  // given up while it waited for another attempt
    version->wait = ServableWait::kNothing;
    go_on = version->wanted && !stopped_;
    if (!go_on) SetStage(*version, ServableStage::kEnd, version->status);
  });
  if (!go_on) return;
  using Result = absl::StatusOr<std::unique_ptr<const Servable>>;
  Loaded(version, RunLoader<Result>(version, [](Loader& loader) -> Result {
           if (absl::Status status = loader.CheckWhole(); !status.ok()) return status;
           return loader.Load();
         }));
}

void Manager::Loaded(const std::shared_ptr<Version>& version,
                     absl::StatusOr<std::unique_ptr<const Servable>> loaded) {
  Change(version->source.id.name, [&](Model&, Aftermath& aftermath) {
    if (loaded.ok()) {
      // The last holder, who may be a call, only hands the servable over to an unload thread.
      version->servable =
          std::shared_ptr<const Servable>(loaded->release(), [this, version](const Servable* servable) {
            try {
              unloads_.Add([this, version, servable] { Unload(version, servable); });
            } catch (const std::bad_alloc&) {
              Unload(version, servable);
            }
          });
      if (version->wanted && !stopped_) {
        SetStage(*version, ServableStage::kAvailable, absl::OkStatus());
      } else {
        StartUnload(*version, aftermath);
      }
      return;
    }
    const absl::Status& status = loaded.status();
    if (!version->wanted || stopped_) return SetStage(*version, ServableStage::kEnd, status);
    if (IsNotWhole(status)) return SetStage(*version, ServableStage::kStart, status, ServableWait::kFiles);
    ++version->failures;
    if (!IsTransient(status) || version->failures > options_.max_load_retries) {
      return SetStage(*version, ServableStage::kEnd, status);
    }
    SetStage(*version, ServableStage::kLoading, status, ServableWait::kRetry);
    loads_.Add([this, version] { Load(version); }, absl::Now() + options_.load_retry_interval);
  });
}

void Manager::Unload(const std::shared_ptr<Version>& version, const Servable* servable) {
  delete servable;
  Change(version->source.id.name,
         [&](Model&, Aftermath&) { SetStage(*version, ServableStage::kEnd, absl::OkStatus()); });
  base::ReturnMemorySoon();
}

void Manager::Forget(const std::string& name, Model& model) {
  if (!model.ForgetEnded(kRememberedEnds)) return;
  if (std::find(ended_models_.begin(), ended_models_.end(), name) != ended_models_.end()) return;
  ended_models_.push_back(name);
  while (ended_models_.size() > kRememberedModels) {
    const auto oldest = models_.find(ended_models_.front());
    ended_models_.pop_front();
    if (oldest == models_.end() || !oldest->second.HasEnded()) continue;
    available_.Set(oldest->first, {});
    models_.erase(oldest);
  }
}

absl::StatusOr<std::shared_ptr<const Servable>> Manager::Find(const ModelSpec& spec) const {
  return available_.Find(spec);
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
  for (const auto& [_, version] : by_number) states.push_back(version->state());
  return states;
}

std::vector<ServableState> Manager::AllStates() const {
  absl::MutexLock lock(&mutex_);
  std::vector<ServableState> states;
  for (const auto& [name, model] : models_) {
    for (const auto& version : model.versions) {
      states.push_back(version->state());
    }
  }
  return states;
}

}  // namespace tfipu::serving
