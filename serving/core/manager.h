// Brings versions of models into memory and out of it, and finds them for the APIs.
#ifndef SERVING_CORE_MANAGER_H_
#define SERVING_CORE_MANAGER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "serving/core/loader.h"
#include "serving/core/servable_directory.h"
#include "serving/core/task_queue.h"

namespace tfipu::serving {

struct ManagerOptions {
  int load_threads = 1;
  int unload_threads = 1;
  // Further attempts after a load failed with a transient error (see Loader), and the time between them.
  int max_load_retries = 5;
  absl::Duration load_retry_interval = absl::Minutes(1);

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
//                               kLoading -> (transient error, retries left) -> kLoading
//                               kLoading -> (error, or not wanted any more) -> kEnd with the error, if any
// Find() gives a version exactly while it is kAvailable. Whoever got it may use it for as long as he holds
// the pointer: kUnloading lasts until the last holder has let go, and the servable is destroyed in an unload
// thread, never in that of a call. Its memory is then given back to the system.
//
// With kPreserveAvailability an available version that is not wanted any more stays available until a wanted
// one is, or nothing at all is wanted of that model. So a new version that fails to load never costs the old
// one.
//
// Versions that ended are remembered with their status, the latest kRememberedEnds of each model, and so are
// models of which nothing is left, kRememberedModels of them.
//
// A wanted version that comes with another path than the one that is loaded counts as another incarnation of
// the version: it is loaded beside the old one and takes its place.
//
// Thread-safe. Find() reads a snapshot through a pointer that each thread keeps for itself: no lock is taken
// unless the set of available versions has changed since the thread's last call.
class Manager : public ServableDirectory {
 public:
  static constexpr std::size_t kRememberedEnds = 16;
  static constexpr std::size_t kRememberedModels = 1000;

  Manager(ManagerOptions options, LoaderFactory loader_factory);
  // Stops.
  ~Manager() override;

  // From now on, exactly these versions of the model are wanted; their ids' names must be `model`. Returns at
  // once.
  void Aspire(absl::string_view model, std::vector<VersionSource> versions);

  // Replaces the labels of the model. A label that is moved to a version that is not available yet stays with
  // the old version until either the new one is available or the old one no longer is.
  using Labels = std::map<std::string, std::int64_t, std::less<>>;
  void SetLabels(absl::string_view model, Labels labels);
  // As they were set last.
  Labels GetLabels(absl::string_view model) const;

  // Waits until every wanted version of the models is available or has ended, and that has been told; says
  // whether that was before the deadline.
  bool WaitUntilSettled(const std::vector<std::string>& models, absl::Time deadline) const;

  // Waits until every wanted version was tried: it is available, has ended, or waits for another attempt, and
  // that has been told.
  void WaitUntilTried() const;

  // Whether this version is available.
  bool IsAvailable(absl::string_view model, std::int64_t version) const;

  // Unloads everything and waits until it is, which needs all holders of servables to let go. Nothing is
  // loaded afterwards. Idempotent.
  void Stop();

  absl::StatusOr<std::shared_ptr<const Servable>> Find(const ModelSpec& spec) const override;
  absl::StatusOr<std::vector<ServableState>> States(const ModelSpec& spec) const override;
  std::vector<ServableState> AllStates() const override;

 private:
  struct Version;
  struct Model;
  struct Snapshot;
  // What a change under the lock leaves to be done after it.
  struct Aftermath;

  void SetStage(Version& version, ServableStage stage, absl::Status status, Aftermath& aftermath)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Starts the loads and unloads that the states call for now.
  void Advance(const std::string& name, Model& model, Aftermath& aftermath)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartLoad(const std::shared_ptr<Version>& version, Aftermath& aftermath)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StartUnload(Version& version, Aftermath& aftermath) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(Model& model) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void Tell();
  void Load(const std::shared_ptr<Version>& version);
  void Unload(const std::shared_ptr<Version>& version, const Servable* servable);
  // Runs `change` under the lock, lets the model advance, publishes, and tells of it.
  void Change(absl::string_view model, const std::function<void(Model&, Aftermath&)>& change);
  const Snapshot& Current() const;

  const ManagerOptions options_;
  const LoaderFactory loader_factory_;

  mutable absl::Mutex mutex_;
  mutable absl::CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, Model, std::less<>> models_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::string> ended_models_ ABSL_GUARDED_BY(mutex_);
  std::vector<ServableState> untold_ ABSL_GUARDED_BY(mutex_);
  bool telling_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Mutex tell_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  std::shared_ptr<const Snapshot> snapshot_ ABSL_GUARDED_BY(mutex_);
  // Unique among all snapshots of the process.
  std::atomic<std::uint64_t> snapshot_number_{0};

  // Last members: their threads end before the rest goes.
  std::unique_ptr<TaskQueue> unloads_;
  std::unique_ptr<TaskQueue> loads_;
};

}  // namespace tfipu::serving

#endif  // SERVING_CORE_MANAGER_H_
