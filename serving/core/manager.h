// Brings versions of models into memory and out of it, and finds them for the APIs.
#ifndef SERVING_CORE_MANAGER_H_
#define SERVING_CORE_MANAGER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "serving/core/available_versions.h"
#include "serving/core/loader.h"
#include "serving/core/managed_model.h"
#include "serving/core/servable_directory.h"
#include "serving/core/task_queue.h"

namespace tfipu::serving {

struct ManagerOptions {
  int load_threads = 1;
  int unload_threads = 1;
  // Further attempts after a load failed with a transient error (see Loader), and the time between them.
  int max_load_retries = 5;
  absl::Duration load_retry_interval = absl::Minutes(1);
  // A load that takes longer counts as hung: it is reported, keeps no thread from others, and nobody waits
  // for it.
  absl::Duration load_timeout = absl::InfiniteDuration();

  enum class Transition {
    // A version is unloaded only when another that is wanted is available: more memory, no gap.
    kPreserveAvailability,
    // Versions that are not wanted any more are unloaded before new ones are loaded: less memory, a gap.
    kPreserveResources,
  };
  Transition transition = Transition::kPreserveAvailability;

  // Told of every change of state after it happened, in order, from any thread, one call at a time. May ask
  // the manager, must not change it.
  std::function<void(const ServableState&)> on_change;
};

// Sources say with Aspire() what is to be served; the manager loads and unloads until that is so.
//
// A version's states: kStart -> kLoading -> kAvailable -> kUnloading -> kEnd
//                     kLoading -> (not whole) -> kStart, until its files change
//                     kLoading -> (transient error, retries left) -> kLoading
//                     kLoading -> (error, or not wanted any more) -> kEnd with the error, if any
// Find() gives a version exactly while it is kAvailable. Whoever got it may use it for as long as he holds
// the pointer: kUnloading lasts until the last holder has let go, and the servable is destroyed in an unload
// thread, never in that of a call. Its memory is then given back to the system.
//
// With kPreserveAvailability an available version that is not wanted any more stays available until a wanted
// one is, or nothing at all is wanted of that model. So a new version that fails to load never costs the old
// one. With kPreserveResources it stays until a wanted one is found whole.
//
// A version that is not whole, fails or hangs is stood in for by the latest of the versions that the source
// named as spare. So a restart while a version is being copied serves what was served before.
//
// Versions that ended are remembered with their status, the latest kRememberedEnds of each model, and so are
// models of which nothing is left, kRememberedModels of them.
//
// A wanted version that comes with another path or other contents than the one that is loaded counts as
// another incarnation of the version: it is loaded beside the old one and takes its place.
//
// An exception in a load, as when there is no memory, is an error of that version. Thread-safe; Find() takes
// no lock (see AvailableVersions).
class Manager : public ServableDirectory {
 public:
  static constexpr std::size_t kRememberedEnds = 16;
  static constexpr std::size_t kRememberedModels = 1000;

  Manager(ManagerOptions options, LoaderFactory loader_factory);
  // Stops.
  ~Manager() override;

  // From now on, exactly these versions of the model are wanted; their ids' names must be `model`. `spares`,
  // latest first, may stand in for those that cannot be served. Returns at once.
  void Aspire(absl::string_view model, std::vector<VersionSource> versions,
              std::vector<VersionSource> spares = {});

  // Replaces the labels of the model. A label that is moved to a version that is not available yet stays with
  // the old version until either the new one is available or the old one no longer is.
  using Labels = VersionLabels;
  void SetLabels(absl::string_view model, Labels labels);
  // As they were set last.
  Labels GetLabels(absl::string_view model) const;

  // Waits until every wanted version of the models is available, has ended, waits for files or hangs, and
  // that has been told; says whether that was before the deadline and before StopLoading().
  bool WaitUntilSettled(const std::vector<std::string>& models, absl::Time deadline) const;

  // Waits until every wanted version was tried (ServableState::tried()) and that has been told, or
  // StopLoading().
  void WaitUntilTried() const;

  // Whether this version is available.
  bool IsAvailable(absl::string_view model, std::int64_t version) const;

  // No load begins any more and nobody waits for one; what is available stays.
  void StopLoading();

  // Unloads everything and waits until it is, which needs all holders of servables to let go. Returns whether
  // all loads had ended before the deadline; if not, they go on and the manager must not be destroyed before
  // they end. May be called again.
  bool Stop(absl::Time loads_deadline = absl::InfiniteFuture());

  absl::StatusOr<std::shared_ptr<const Servable>> Find(const ModelSpec& spec) const override;
  absl::StatusOr<std::vector<ServableState>> States(const ModelSpec& spec) const override;
  std::vector<ServableState> AllStates() const override;

 private:
  using Version = ManagedVersion;
  using Model = ManagedModel;
  // What a change under the lock leaves to be done after it.
  struct Aftermath;

  void SetStage(Version& version, ServableStage stage, absl::Status status,
                ServableWait wait = ServableWait::kNothing) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Starts the loads and unloads that the states call for now.
  void Advance(Model& model, Aftermath& aftermath) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UnloadUnwanted(Model& model, Aftermath& aftermath) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartLoads(Model& model) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartUnload(Version& version, Aftermath& aftermath) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(const std::string& name, Model& model) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool AllWanted(const std::vector<std::string>* models, bool (*is_so)(const Version&)) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void Tell();
  // The work of a load thread, whole or up to the check.
  void CheckWhole(const std::shared_ptr<Version>& version);
  void Load(const std::shared_ptr<Version>& version);
  // Calls `work` on a new loader; exceptions become errors. Meanwhile the load may be found to hang.
  template <typename Result, typename Work>
  Result RunLoader(const std::shared_ptr<Version>& version, const Work& work);
  void ReportHung(const std::shared_ptr<Version>& version, std::uint64_t run);
  void Loaded(const std::shared_ptr<Version>& version,
              absl::StatusOr<std::unique_ptr<const Servable>> loaded);
  void Unload(const std::shared_ptr<Version>& version, const Servable* servable);
  // Runs `change` under the lock, lets the model advance, publishes, and tells of it.
  void Change(absl::string_view model, const std::function<void(Model&, Aftermath&)>& change);

  const ManagerOptions options_;
  const LoaderFactory loader_factory_;
  AvailableVersions available_;

  mutable absl::Mutex mutex_;
  mutable absl::CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, Model, std::less<>> models_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> ended_models_ ABSL_GUARDED_BY(mutex_);
  std::vector<ServableState> untold_ ABSL_GUARDED_BY(mutex_);
  bool telling_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Mutex tell_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  std::uint64_t last_run_ ABSL_GUARDED_BY(mutex_) = 0;

  // Last members: their threads end before the rest goes.
  TaskQueue unloads_;
  TaskQueue loads_;
  TaskQueue watch_;  // of loads that hang
};

}  // namespace tfipu::serving

#endif  // SERVING_CORE_MANAGER_H_
