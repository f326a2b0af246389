// Calls that wait to be run together.
#ifndef SERVING_BATCHING_BATCH_QUEUES_H_
#define SERVING_BATCHING_BATCH_QUEUES_H_

#include <cstdint>
#include <deque>
#include <list>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {

// A call in a line.
struct Task {
  ServableCall call;
  CallDone done;
  std::int64_t rows = 0;
  std::uint64_t number = 0;
  absl::Time enqueued;
};
using Tasks = std::deque<std::unique_ptr<Task>>;

// Calls that can be run together, in order of arrival. Not empty.
struct Group {
  Tasks waiting;
  std::int64_t rows = 0;
};

// Of one signature.
struct Queues {
  absl::Mutex mutex;
  std::list<Group> groups ABSL_GUARDED_BY(mutex);
  std::int64_t running ABSL_GUARDED_BY(mutex) = 0;
  std::int64_t waiting_rows ABSL_GUARDED_BY(mutex) = 0;
  std::uint64_t next_number ABSL_GUARDED_BY(mutex) = 0;
  // Tasks with smaller numbers found no place when they came: they wait.
  std::uint64_t left ABSL_GUARDED_BY(mutex) = 0;
  // Fixed by the signature, or found out when an output had not the batch's rows.
  bool batched ABSL_GUARDED_BY(mutex) = true;
};

}  // namespace tfipu::serving

#endif  // SERVING_BATCHING_BATCH_QUEUES_H_
