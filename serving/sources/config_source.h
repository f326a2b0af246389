// Keeps what is served in step with a model config: from the command line, a file, or a call.
#ifndef SERVING_SOURCES_CONFIG_SOURCE_H_
#define SERVING_SOURCES_CONFIG_SOURCE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "serving/core/manager.h"
#include "serving/core/periodic_thread.h"
#include "serving/sources/file_system_source.h"
#include "serving/sources/model_config.h"
#include "tensorflow_serving/config/model_server_config.pb.h"

namespace tfipu::serving {

struct ConfigSourceOptions {
  // How often models' folders are looked at; not positive: once for each config. `never_look`: not even that.
  absl::Duration poll_interval = absl::Seconds(1);
  bool never_look = false;
  // A reload may give a new label to a version that is not available.
  bool labels_for_unavailable_versions = false;
  // How long Reload() waits for what the config adds.
  absl::Duration reload_timeout = absl::Minutes(10);
  // Asked of each config that is valid as such whether it can be followed; its error refuses the config.
  std::function<absl::Status(const std::vector<ConfiguredModel>&)> check;
  // Told of each config that takes effect, before models are loaded for it.
  std::function<void(const std::vector<ConfiguredModel>&)> on_config;
};

// Thread-safe; configs take effect one after the other.
class ConfigSource {
 public:
  // The manager outlives the source.
  ConfigSource(ConfigSourceOptions options, Manager* manager);
  ~ConfigSource();

  // Takes the first config and returns without waiting for models. Labels may name versions that are not
  // there yet. A list of models that is empty waits for a reload.
  absl::Status Start(const tensorflow::serving::ModelServerConfig& config);

  // Replaces the config: models not in it are unloaded, new ones loaded, changed base paths and policies
  // followed. Returns when all versions that are wanted now are available or have failed.
  //
  // An invalid config changes nothing (InvalidArgument). A label is moved only to a version that is
  // available, a new label likewise unless labels_for_unavailable_versions: FailedPrecondition otherwise, and
  // the labels of all models stay as they were, while the models themselves follow the config.
  // DeadlineExceeded when loading takes longer than reload_timeout; it goes on. Cancelled when the source is
  // stopped meanwhile. Unknown when the config is in effect but a model that it adds has no version that is
  // available, with the reasons.
  absl::Status Reload(const tensorflow::serving::ModelServerConfig& config);

  // Reads `path` now and starts; then, when `interval` is positive, looks at the file that often and reloads
  // when its text has changed. A file that is wrong then is logged and changes nothing. One that is right but
  // not fully in effect, as a label's version is not there yet, is applied at each look again until it is, or
  // until a Reload() that succeeds.
  absl::Status StartFromFile(const std::string& path, absl::Duration interval);

  // Nothing is looked at any more. Does not wait; the manager's StopLoading() ends what waits for models.
  void Stop();

 private:
  absl::Status Apply(const tensorflow::serving::ModelServerConfig& config, bool first)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckAvailable(const std::vector<std::string>& models) const;
  void PollFile(const std::string& path);

  const ConfigSourceOptions options_;
  Manager* const manager_;
  absl::Mutex mutex_;
  std::vector<std::string> models_ ABSL_GUARDED_BY(mutex_);
  std::string file_text_ ABSL_GUARDED_BY(mutex_);
  bool file_is_pending_ ABSL_GUARDED_BY(mutex_) = false;  // right, but not fully in effect
  std::string file_complaint_ ABSL_GUARDED_BY(mutex_);
  FileSystemSource folders_;
  std::unique_ptr<PeriodicThread> file_poller_;
};

}  // namespace tfipu::serving

#endif  // SERVING_SOURCES_CONFIG_SOURCE_H_
