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

// Up to `max_threads` threads, made as they are needed, take tasks in order of the time they are due. The
// first is made at once, so that every task is done even when the system has no more threads to give. A task
// that throws is logged and costs only itself.
//
// Thread-safe.
class TaskQueue {
 public:
  // `name` becomes the threads' name, for debuggers: 15 characters at most. Throws std::system_error when
  // there is no first thread.
  TaskQueue(std::string name, int max_threads);
  // Stops, and waits for tasks that run.
  ~TaskQueue();

  // Does the task at `due` or soon after. Dropped when the queue has been stopped. Throws std::bad_alloc, and
  // has done nothing then.
  void Add(std::function<void()> task, absl::Time due = absl::InfinitePast());

  // One thread more or less, for as long as a task that hangs keeps one. May be called by a task.
  void AddThread();
  void RemoveThread();

  // Tasks that are due are done; those due later are dropped. Returns whether all threads ended before the
  // deadline; if not, they go on, and use the queue. May be called again. Not to be called by a task.
  bool Stop(absl::Time deadline = absl::InfiniteFuture());

 private:
  void Work(std::uint64_t id);
  void MakeThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // When a task is due and no thread is there to take it.
  void MakeThreadIfNeeded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  absl::Mutex mutex_;
  absl::CondVar changed_;
  int max_threads_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  int idle_ ABSL_GUARDED_BY(mutex_) = 0;
  // The number keeps tasks of the same time in order.
  std::map<std::pair<absl::Time, std::uint64_t>, std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::uint64_t, std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> ended_ ABSL_GUARDED_BY(mutex_);  // to be joined
};

}  // namespace tfipu::serving

#endif  // SERVING_CORE_TASK_QUEUE_H_
