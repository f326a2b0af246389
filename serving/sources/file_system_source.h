// Finds versions of models in folders.
#ifndef SERVING_SOURCES_FILE_SYSTEM_SOURCE_H_
#define SERVING_SOURCES_FILE_SYSTEM_SOURCE_H_

#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "serving/core/loader.h"
#include "serving/core/version_policy.h"

namespace tfipu::serving {

struct WatchedModel {
  std::string name;
  std::string base_path;
  VersionPolicy policy;

  bool operator==(const WatchedModel& other) const;
};

// Looks into each model's base path for folders whose names are whole numbers (leading zeros are allowed),
// chooses among them by the model's policy and tells the sink. Everything else in the base path is ignored.
//
// A base path that cannot be read changes nothing. One without any version takes the model out of service
// only when two looks in a row found none: versions may be replaced by removing and adding.
//
// Thread-safe. The sink is called from Watch() and from the polling thread, one call at a time.
class FileSystemSource {
 public:
  using Sink = std::function<void(absl::string_view model, std::vector<VersionSource> versions)>;

  // Looks again after each `poll_interval`; not positive: only when asked.
  FileSystemSource(absl::Duration poll_interval, Sink sink);
  // Stops polling; no call of the sink is left.
  ~FileSystemSource();

  // Replaces what is watched, and looks at all of it unless `look` is false. Models that are watched no
  // longer come to the sink once with no version.
  void Watch(std::vector<WatchedModel> models, bool look = true);

  // Looks at everything now.
  void Poll();

 private:
  struct Watched {
    WatchedModel model;
    bool had_versions = false;
    int empty_looks = 0;
    std::string complaint;  // the last that was logged
  };
  void Look(Watched& watched) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Complain(Watched& watched, std::string complaint);

  const absl::Duration poll_interval_;
  const Sink sink_;
  absl::Mutex mutex_;
  std::map<std::string, Watched> watched_ ABSL_GUARDED_BY(mutex_);
  absl::Mutex stop_mutex_;
  bool stopped_ ABSL_GUARDED_BY(stop_mutex_) = false;
  std::thread poller_;
};

}  // namespace tfipu::serving

#endif  // SERVING_SOURCES_FILE_SYSTEM_SOURCE_H_
