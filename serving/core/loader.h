// How one version of a model gets into memory.
#ifndef SERVING_CORE_LOADER_H_
#define SERVING_CORE_LOADER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "serving/core/servable_id.h"

namespace tfipu::serving {

class Servable;

// What a source found and wants served.
struct VersionSource {
  ServableId id;
  std::string path;
  // Differs when what lies at the path has changed. A version that failed to load is tried again when its
  // stamp changes; one that loaded stays as it is.
  std::string stamp;
  // Tells versions of one number but of different paths apart while both are loaded; 0 for the first.
  int incarnation = 0;
};

// Knows how to load one version. Made by the manager's LoaderFactory, used by one thread at a time.
//
// Demands on an implementation:
// 1. Load() may be called again after it failed, and starts afresh then.
// 2. A failure leaves nothing behind: no memory, threads or files.
// 3. Unavailable, Aborted, DeadlineExceeded and ResourceExhausted say that another attempt may succeed; every
// other code
//    is final.
// 4. Destroying the servable gives back all that the load took. The manager does that in an unload thread,
// after the
//    last call has ended.
class Loader {
 public:
  virtual ~Loader() = default;
  virtual absl::StatusOr<std::unique_ptr<const Servable>> Load() = 0;
};

// Called from load threads.
using LoaderFactory = std::function<std::unique_ptr<Loader>(const VersionSource& source)>;

}  // namespace tfipu::serving

#endif  // SERVING_CORE_LOADER_H_
