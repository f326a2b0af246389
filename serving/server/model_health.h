// What gRPC's health service answers of the server and its models.
#ifndef SERVING_SERVER_MODEL_HEALTH_H_
#define SERVING_SERVER_MODEL_HEALTH_H_

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "serving/core/servable_directory.h"

namespace tfipu::serving {

// A model is healthy while a version of it is available. The server ("" and the names of its gRPC services,
// with their package and without, as TensorFlow Serving has them)
// is healthy when every configured model is settled (available, or each of its versions was tried) and one at
// least is available, and stays so while any model is available: one broken model does not take the others
// out of service. Thread-safe.
class ModelHealth {
 public:
  // Sets the health of a service; called one at a time, and only for changes.
  using Setter = std::function<void(const std::string& service, bool healthy)>;

  // Update() may be called once the setter is there; before, changes are kept for it.
  explicit ModelHealth(const ServableDirectory* directory) : directory_(directory) {}
  void Start(Setter setter);

  // The names of the configured models.
  void SetModels(std::vector<std::string> models);
  // A state in the directory has changed.
  void Update();
  // Everything is unhealthy from now on.
  void Stop();

 private:
  void Set(const std::string& service, bool healthy) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Refresh() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const ServableDirectory* const directory_;
  absl::Mutex mutex_;
  Setter setter_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> models_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, bool> told_ ABSL_GUARDED_BY(mutex_);
  bool was_healthy_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVER_MODEL_HEALTH_H_
