// Finds versions of models in folders.
#ifndef SERVING_SOURCES_FILE_SYSTEM_SOURCE_H_
#define SERVING_SOURCES_FILE_SYSTEM_SOURCE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "serving/core/loader.h"
#include "serving/core/periodic_thread.h"
#include "serving/core/version_policy.h"

namespace tfipu::serving {

struct WatchedModel {
  std::string name;
  std::string base_path;
  VersionPolicy policy;

  bool operator==(const WatchedModel& other) const;
};

// Looks into each model's base path for folders whose names are whole numbers (leading zeros are allowed; of
// two folders of one number the one with the shortest name counts), chooses among them by the model's policy
// and tells the sink. Everything else in the base path is ignored. With a policy of the latest versions, the
// kSpares that come after them are told as spares.
//
// A base path that cannot be read changes nothing. One without any version takes the model out of service
// only when two looks in a row found none: versions may be replaced by removing and adding.
//
// Thread-safe. The sink is called from Watch() and from the polling thread, one call at a time.
class FileSystemSource {
 public:
  using Sink = std::function<void(absl::string_view model, std::vector<VersionSource> versions,
                                  std::vector<VersionSource> spares)>;
  static constexpr std::size_t kSpares = 2;

  // Looks again after each `poll_interval`; not positive: only when asked.
  FileSystemSource(absl::Duration poll_interval, Sink sink);
  // Stops; no call of the sink is left.
  ~FileSystemSource();

  // No further poll begins. Does not wait.
  void Stop();

  // Replaces what is watched, and looks at all of it unless `look` is false. Models that are watched no
  // longer come to the sink once with no version.
  void Watch(std::vector<WatchedModel> models, bool look = true);

  // Looks at everything now.
  void Poll();

 private:
  // What is told of a version's contents changes only when two looks in a row have found the same: while a
  // file is being written there is nothing to load.
  struct Contents {
    std::string seen, told;
  };
  struct Watched {
    WatchedModel model;
    bool had_versions = false;
    int empty_looks = 0;
    std::string complaint;                  // the last that was logged
    std::set<std::string> ignored_folders;  // that was logged
    std::map<std::int64_t, Contents> contents;
  };
  void Look(Watched& watched) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Names of folders by version; false when the base path cannot be read.
  bool FindVersions(Watched& watched, std::map<std::int64_t, std::string>* folders);
  void CheckChosen(Watched& watched, const std::map<std::int64_t, std::string>& folders,
                   const std::vector<std::int64_t>& chosen);
  VersionSource SourceOf(Watched& watched, std::int64_t number, const std::string& folder);
  void Complain(Watched& watched, std::string complaint);

  const absl::Duration poll_interval_;
  const Sink sink_;
  absl::Mutex mutex_;
  std::map<std::string, Watched> watched_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<PeriodicThread> poller_;  // null: only when asked
};

}  // namespace tfipu::serving

#endif  // SERVING_SOURCES_FILE_SYSTEM_SOURCE_H_
