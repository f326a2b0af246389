// The calls that wait for a device.
#ifndef CC_ENGINE_CALL_QUEUE_H_
#define CC_ENGINE_CALL_QUEUE_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "cc/engine/engine.h"

namespace tfipu {

using SteadyTime = std::chrono::steady_clock::time_point;

// A call inside the engine. Its rows enter devices one part after the other; it is answered when none is left
// in the queue and none inside a device.
struct PendingCall {
  Call call;
  CallId id = 0;
  SteadyTime enqueued;
  SteadyTime deadline = SteadyTime::max();
  std::int64_t rows = 1;
  std::int64_t entered = 0;  // rows that a step took
  int parts_inside = 0;      // parts inside devices
  bool queued = false;
  absl::Status status;          // the first failure of any part
  PendingCall* next = nullptr;  // of Answers

  bool GivenUp() const { return call.cancelled && call.cancelled(); }
};

// First in, first out, those of high priority before all others. A call stays at the front until all its rows
// were taken. Does not own the calls. Not thread-safe.
class CallQueue {
 public:
  // Ids must be given in ascending order. Changes nothing when memory is short and this throws.
  void Push(PendingCall* call);

  // nullptr when empty.
  PendingCall* Front();

  // Takes the front call away.
  void PopFront();

  // Counts rows of the front call as taken.
  void RowsTaken(std::int64_t rows) { rows_ -= rows; }

  // Takes the call of that id away if it is queued and none of its rows was taken; else nullptr.
  PendingCall* Remove(CallId id);

  // Takes away all calls for which `predicate` holds.
  void RemoveIf(absl::FunctionRef<bool(PendingCall*)> predicate);

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  std::int64_t rows() const { return rows_; }  // that were not taken yet

  // When the longest waiting call came. Not empty.
  SteadyTime Oldest();

 private:
  struct Entry {
    CallId id;
    PendingCall* call;  // nullptr: removed
  };
  using Lane = std::deque<Entry>;

  // The first lane, by priority, that holds a call at its front; removed entries before it are dropped.
  Lane* FrontLane();
  void Forget(PendingCall* call);

  std::array<Lane, 2> lanes_;  // high priority, normal
  std::size_t size_ = 0;
  std::int64_t rows_ = 0;
};

}  // namespace tfipu

#endif  // CC_ENGINE_CALL_QUEUE_H_
