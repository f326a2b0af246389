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
  // Starts loading models and, when those found at once have settled (or right away with
  // --listen_while_loading), listens. An error is one of the command line, of a file that it names, or of a
  // port that cannot be had; models that fail to load are none.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Flags& flags);

  // Shuts down.
  ~Server();

  // Health turns bad, nothing new is accepted, running requests finish within the grace time of the flags,
  // models are unloaded, logs written. Idempotent.
  void Shutdown();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVER_H_
