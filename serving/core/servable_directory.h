// What the APIs ask of whoever holds the models.
#ifndef SERVING_CORE_SERVABLE_DIRECTORY_H_
#define SERVING_CORE_SERVABLE_DIRECTORY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "serving/core/servable_id.h"

namespace tfipu::serving {

class Servable;

// How a client names a version: by number, by label, or not at all, which means the largest that is served.
struct ModelSpec {
  std::string name;
  std::optional<std::int64_t> version;
  std::string label;
};

// The life of a version: kStart -> kLoading -> kAvailable -> kUnloading -> kEnd. `status` says why a version
// that never became available ended. Numbered as tensorflow.serving.ModelVersionStatus.State.
enum class ServableStage { kStart = 10, kLoading = 20, kAvailable = 30, kUnloading = 40, kEnd = 50 };

// What a version that is not available waits for; `status` says more.
enum class ServableWait {
  kNothing,
  kRetry,     // kLoading: an attempt failed, another follows
  kFiles,     // kStart: it is not whole; it is looked at again when its files change
  kHungLoad,  // kLoading: it takes longer than a load should
};

struct ServableState {
  ServableId id;
  ServableStage stage = ServableStage::kStart;
  absl::Status status;
  ServableWait wait = ServableWait::kNothing;

  // Whether it was tried: it is available, has ended, or waits for something.
  bool tried() const { return stage >= ServableStage::kAvailable || wait != ServableWait::kNothing; }
};

// Thread-safe. Find() is on every request's path: it takes no lock that a load or an unload holds for long.
class ServableDirectory {
 public:
  virtual ~ServableDirectory() = default;

  // NotFound "Servable not found for request: Latest(m)" / "Specific(m, 7)"; InvalidArgument "Unrecognized
  // servable version label: l"; InvalidArgument when the name is missing, or both version and label are
  // given.
  virtual absl::StatusOr<std::shared_ptr<const Servable>> Find(const ModelSpec& spec) const = 0;

  // States of all versions that are known of a model, or of the one that the spec names, latest first.
  // NotFound "Could not find any versions of model m" / "Could not find version 7 of model m".
  virtual absl::StatusOr<std::vector<ServableState>> States(const ModelSpec& spec) const = 0;

  // States of everything, for health and metrics.
  virtual std::vector<ServableState> AllStates() const = 0;
};

}  // namespace tfipu::serving

#endif  // SERVING_CORE_SERVABLE_DIRECTORY_H_
