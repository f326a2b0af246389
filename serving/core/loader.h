// How one version of a model gets into memory.
#ifndef SERVING_CORE_LOADER_H_
#define SERVING_CORE_LOADER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "serving/core/servable_id.h"

namespace tfipu::serving {

class Servable;

// What a source found and wants served.
struct VersionSource {
  ServableId id;
  std::string path;
  // Differs when what lies at the path has changed: a version that failed to load, or was not whole, is tried
  // again. Empty: that cannot be told; one that was not whole is looked at again each time that it is
  // aspired.
  std::string stamp;
  // Tells the contents of files apart of which nothing says whether they are whole: when they change, a
  // version that was loaded is loaded again.
  std::string contents;
  // Tells versions of one number but of different paths or contents apart while both are loaded; 0 for the
  // first.
  int incarnation = 0;
};

// The error of a version of which something is still missing, as while it is being copied: it is not broken,
// and is looked at again when its files change. `missing` completes "waits for ".
absl::Status NotWholeError(absl::string_view missing);
bool IsNotWhole(const absl::Status& status);

// Knows how to load one version. Made by the manager's LoaderFactory, used by one thread at a time.
//
// Demands on an implementation:
// 1. Load() may be called again after it failed, and starts afresh then.
// 2. A failure leaves nothing behind: no memory, threads or files.
// 3. Unavailable, Aborted, DeadlineExceeded and ResourceExhausted say that another attempt may succeed,
// NotWholeError
//    that it may when the files have changed; every other code is final.
// 4. Destroying the servable gives back all that the load took. The manager does that in an unload thread,
// after the
//    last call has ended.
class Loader {
 public:
  virtual ~Loader() = default;

  // NotWholeError unless all that Load() will read is there. Cheap beside a load.
  virtual absl::Status CheckWhole() { return absl::OkStatus(); }

  // Of a version that CheckWhole() found whole.
  virtual absl::StatusOr<std::unique_ptr<const Servable>> Load() = 0;
};

// Called from load threads.
using LoaderFactory = std::function<std::unique_ptr<Loader>(const VersionSource& source)>;

}  // namespace tfipu::serving

#endif  // SERVING_CORE_LOADER_H_
