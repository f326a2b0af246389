// The model server: everything behind the command line.
#ifndef SERVING_SERVER_H_
#define SERVING_SERVER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "serving/flags.h"

namespace tfipu::serving {

// Made of the parts in this folder's subfolders, wired here and nowhere else:
//   ConfigSource -> Manager -> SavedModel servables <- APIs over compute queues <- gRPC and REST transports
//
// Thread-safe.
class Server {
 public:
  // Starts loading models and returns when those found at once were tried, or right away with
  // --listen_while_loading. An error is one of the command line or of a file that it names; models that fail
  // to load are none.
  static absl::StatusOr<std::unique_ptr<Server>> Load(const Flags& flags);

  // Opens the ports. An error is one that cannot be had, or of a file that the command line names.
  absl::Status Listen();

  // Shuts down.
  ~Server();

  // Health turns bad, nothing new is accepted, running requests finish within the grace time of the flags,
  // models are unloaded, logs written. Loads that still run are not waited for. Idempotent.
  void Shutdown();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVER_H_
