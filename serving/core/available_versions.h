// The versions that calls can use, found without a lock.
#ifndef SERVING_CORE_AVAILABLE_VERSIONS_H_
#define SERVING_CORE_AVAILABLE_VERSIONS_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "serving/core/servable_directory.h"

namespace tfipu::serving {

using VersionLabels = std::map<std::string, std::int64_t, std::less<>>;

// Each thread keeps a pointer to the snapshot that it used last and compares a number: Find() takes a lock
// only when something has changed since the thread's last call. Snapshots hold weak pointers, so that a
// thread that sleeps keeps nothing in memory.
//
// Thread-safe.
class AvailableVersions {
 public:
  struct Model {
    // Latest first; of two incarnations of a number, the later comes first.
    std::vector<std::pair<std::int64_t, std::weak_ptr<const Servable>>> versions;
    VersionLabels labels;
  };

  AvailableVersions();

  // Replaces what calls find of a model. Does nothing when that is what they find already.
  void Set(const std::string& name, Model model);

  // ServableDirectory::Find().
  absl::StatusOr<std::shared_ptr<const Servable>> Find(const ModelSpec& spec) const;

 private:
  struct Snapshot;

  const Snapshot& Current() const;
  void Publish(std::shared_ptr<Snapshot> snapshot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::shared_ptr<const Snapshot> snapshot_ ABSL_GUARDED_BY(mutex_);
  // Unique among all snapshots of the process.
  std::atomic<std::uint64_t> snapshot_number_{0};
};

}  // namespace tfipu::serving

#endif  // SERVING_CORE_AVAILABLE_VERSIONS_H_
