// A thread that does the same work again and again.
#ifndef SERVING_CORE_PERIODIC_THREAD_H_
#define SERVING_CORE_PERIODIC_THREAD_H_

#include <functional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace tfipu::serving {

// Does `work` each time that `interval` has passed since it was last done. Work that throws is logged and
// done again next time. Thread-safe.
class PeriodicThread {
 public:
  // `name`: 15 characters at most. Throws std::system_error when the system has no thread to give.
  PeriodicThread(std::string name, absl::Duration interval, std::function<void()> work);
  // Stops, and waits for work that is being done.
  ~PeriodicThread();

  // No further work begins. Does not wait.
  void Stop();

 private:
  void Run();

  const std::string name_;
  const absl::Duration interval_;
  const std::function<void()> work_;
  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tfipu::serving

#endif  // SERVING_CORE_PERIODIC_THREAD_H_
