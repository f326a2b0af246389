// Where calls run: in the transport's thread when they are short, else on a bounded pool.
#ifndef SERVING_API_CALL_POOL_H_
#define SERVING_API_CALL_POOL_H_

#include <cstddef>
#include <functional>
#include <memory>

#include "absl/status/status.h"

namespace tfipu::serving {

// Threads are made as they are needed, up to `max_threads`, and end when idle. Thread-safe.
class CallPool {
 public:
  CallPool(int max_threads, std::size_t max_queued);
  // Waits for everything that was accepted.
  ~CallPool();

  // Runs `call` at once in this thread if `expected_short`, else on the pool. ResourceExhausted, and `call`
  // is not run, when the queue is full.
  absl::Status Run(bool expected_short, std::function<void()> call);

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace tfipu::serving

#endif  // SERVING_API_CALL_POOL_H_
