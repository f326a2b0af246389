// Threads that do tasks now or later.
#ifndef SERVING_CORE_TASK_QUEUE_H_
#define SERVING_CORE_TASK_QUEUE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace tfipu::serving {

// Up to `max_threads` threads, made as they are needed, take tasks in order of the time they are due.
// Thread-safe.
class TaskQueue {
 public:
  // `name` becomes the threads' name, for debuggers: 15 characters at most.
  TaskQueue(std::string name, int max_threads);
  // Stops.
  ~TaskQueue();

  // Does the task at `due` or soon after. Dropped when the queue has been stopped.
  void Add(std::function<void()> task, absl::Time due = absl::InfinitePast());

  // Tasks that are due are done; those due later are dropped. Returns when all threads have ended.
  // Idempotent. Not to be called by a task.
  void Stop();

 private:
  void Work();

  const std::string name_;
  const int max_threads_;
  absl::Mutex mutex_;
  absl::CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  int idle_ ABSL_GUARDED_BY(mutex_) = 0;
  // The number keeps tasks of the same time in order.
  std::map<std::pair<absl::Time, std::uint64_t>, std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tfipu::serving

#endif  // SERVING_CORE_TASK_QUEUE_H_
