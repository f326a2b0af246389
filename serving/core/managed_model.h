// What the manager knows of a model and of each of its versions.
#ifndef SERVING_CORE_MANAGED_MODEL_H_
#define SERVING_CORE_MANAGED_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "serving/core/available_versions.h"
#include "serving/core/loader.h"
#include "serving/core/servable_directory.h"

namespace tfipu::serving {

struct ManagedVersion {
  VersionSource source;
  ServableStage stage = ServableStage::kStart;
  absl::Status status;
  ServableWait wait = ServableWait::kNothing;
  bool wanted = true;
  bool stands_in = false;  // wanted as a spare
  bool checking = false;   // kStart: a thread looks whether it is whole
  bool whole = false;      // kStart: that was found
  int failures = 0;
  std::uint64_t run = 0;                     // of the loader's, while a thread is in it; else 0
  bool has_extra_thread = false;             // made for others as this run hangs
  std::shared_ptr<const Servable> servable;  // while kAvailable

  // Holds or will hold memory.
  bool live() const { return stage != ServableStage::kStart && stage != ServableStage::kEnd; }
  bool failed() const { return stage == ServableStage::kEnd && !status.ok(); }
  bool cannot_serve() const { return wait != ServableWait::kNothing || failed(); }
  ServableState state() const { return {source.id, stage, status, wait}; }
};

// Guarded by the manager's lock.
struct ManagedModel {
  std::vector<std::shared_ptr<ManagedVersion>> versions;  // in order of arrival
  std::vector<VersionSource> spares;                      // latest first
  VersionLabels labels;                                   // as set
  VersionLabels labels_in_force;                          // as of the last Available()

  // Finds or makes the version and wants it.
  ManagedVersion& Want(VersionSource source);

  // Wants as many spares as there are wanted versions that cannot be served.
  void ChooseSpares();

  // What calls are to find now. A label whose new version is not available stays with its old one while that
  // is.
  AvailableVersions::Model Available();

  // Keeps of the versions that ended and are not wanted one for each number, the latest `most` of them.
  // Returns HasEnded().
  bool ForgetEnded(std::size_t most);

  // Whether there were versions and nothing is left of them.
  bool HasEnded() const;

 private:
  // One that need not be made anew.
  std::shared_ptr<ManagedVersion> Known(const VersionSource& source) const;
};

}  // namespace tfipu::serving

#endif  // SERVING_CORE_MANAGED_MODEL_H_
