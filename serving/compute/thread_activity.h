// Whether a thread computes.
#ifndef SERVING_COMPUTE_THREAD_ACTIVITY_H_
#define SERVING_COMPUTE_THREAD_ACTIVITY_H_

#include <pthread.h>
#include <sys/types.h>

#include <chrono>

namespace tfipu::serving::compute {

// Of one thread; used by any, under the owner's lock, while the thread lives.
class ThreadActivity {
 public:
  // Of the calling thread.
  ThreadActivity();

  // The CPU time that the thread has had.
  std::chrono::nanoseconds CpuTime() const;
  // Whether it waits for something other than a core.
  bool Asleep() const;

 private:
  const pid_t id_;
  clockid_t clock_;
};

}  // namespace tfipu::serving::compute

#endif  // SERVING_COMPUTE_THREAD_ACTIVITY_H_
