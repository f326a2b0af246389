// SIGTERM and SIGINT, from the first moment of the process.
#ifndef SERVING_SERVER_END_SIGNALS_H_
#define SERVING_SERVER_END_SIGNALS_H_

#include <chrono>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace tfipu::serving {

// Both are blocked in every thread before the program's first line, and a thread of this class waits for
// them:
//   before Serve():  the first one ends the process with status 0. Nobody is being served, and what is being
//   loaded may
//                    hang.
//   then:            the first one makes Wait() return. A second one ends the process at once, and so does a
//   shutdown
//                    that takes longer than the grace time and a second: with status 128 + signal.
// One in a process, for as long as that lives.
class EndSignals {
 public:
  explicit EndSignals(std::chrono::seconds grace);
  EndSignals(const EndSignals&) = delete;
  EndSignals& operator=(const EndSignals&) = delete;

  // Requests may come from now on.
  void Serve();
  // Returns when a signal has come after Serve().
  void Wait();

 private:
  void Run();

  const std::chrono::seconds grace_;
  absl::Mutex mutex_;
  bool serves_ ABSL_GUARDED_BY(mutex_) = false;
  bool received_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVER_END_SIGNALS_H_
