// The engines of a process, found by name.
#ifndef CC_ENGINE_ENGINE_MANAGER_H_
#define CC_ENGINE_ENGINE_MANAGER_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "cc/device/backends.h"
#include "cc/engine/engine.h"
#include "cc/engine/engine_key.h"

namespace tfipu {

// What the server's operator may override for all engines of the process. Not set: the executable's own.
struct EngineDefaults {
  std::optional<absl::Duration> timeout = std::nullopt;
  std::optional<int> replicas = std::nullopt;
  int automatic_replicas = 1;  // EngineOptions::automatic_replicas
  std::optional<absl::Duration> max_wait = std::nullopt;
  std::size_t max_queued_calls = 0;
  std::function<void()> on_thread_start = nullptr;  // EngineOptions::on_thread_start
};

// Knows the running engines but does not keep them: an engine lives as long as somebody holds the pointer
// that StartOrAttach() or Find() gave. Thread-safe.
class EngineManager {
 public:
  explicit EngineManager(const Backends& backends) : backends_(backends) {}

  // The process-wide manager over all backends of this build.
  static EngineManager& Global();

  // Set before the first engine starts.
  void set_defaults(const EngineDefaults& defaults);

  // The engine of that name if it runs, else a new one on the executable at `path`, which is checked first
  // (Backends::Check()). A running engine on an executable with other contents is AlreadyExists; no file is
  // read when it was started from the same path. Concurrent calls for one name start it once. A program is
  // loaded once for all engines on the same contents. `timeout` is EngineOptions::timeout, unless the
  // defaults set one; negative: the executable's own.
  absl::StatusOr<std::shared_ptr<Engine>> StartOrAttach(const EngineKey& key, const std::string& path,
                                                        absl::Duration timeout,
                                                        absl::Span<const ConstBuffer> startup_inputs);

  // FailedPrecondition "Engine X does not exist." when none of that name runs.
  absl::StatusOr<std::shared_ptr<Engine>> Find(const EngineKey& key);

  // Stops the engine; later Find() fails, StartOrAttach() starts afresh. NotFound when none of that name
  // runs.
  absl::Status Stop(const EngineKey& key);

  // All running engines, in order of their keys.
  std::vector<std::pair<EngineKey, std::shared_ptr<Engine>>> List();

 private:
  struct Entry;
  struct LoadedProgram;

  // Needs the entry's lock.
  absl::StatusOr<std::shared_ptr<Engine>> StartOrAttachStarting(const EngineKey& key, Entry& entry,
                                                                const std::string& path,
                                                                absl::Duration timeout,
                                                                absl::Span<const ConstBuffer> startup_inputs);
  absl::StatusOr<std::shared_ptr<Program>> LoadProgram(std::shared_ptr<const Executable> executable);
  void RemoveUnused() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Backends& backends_;
  absl::Mutex mutex_;
  EngineDefaults defaults_ ABSL_GUARDED_BY(mutex_);
  std::map<EngineKey, std::shared_ptr<Entry>> entries_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<LoadedProgram>> programs_
      ABSL_GUARDED_BY(mutex_);  // by executable digest
};

}  // namespace tfipu

#endif  // CC_ENGINE_ENGINE_MANAGER_H_
