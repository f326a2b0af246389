#include "cc/engine/call_queue.h"

#include <algorithm>

namespace tfipu {

void CallQueue::Push(PendingCall* call) {
  Lane& lane = lanes_[call->call.priority == Priority::kHigh ? 0 : 1];
  lane.push_back({call->id, call});
  call->queued = true;
  ++size_;
  rows_ += call->rows - call->entered;
}

CallQueue::Lane* CallQueue::FrontLane() {
  for (Lane& lane : lanes_) {
    while (!lane.empty() && lane.front().call == nullptr) lane.pop_front();
    if (!lane.empty()) return &lane;
  }
  return nullptr;
}

PendingCall* CallQueue::Front() {
  Lane* lane = FrontLane();
  return lane == nullptr ? nullptr : lane->front().call;
}

void CallQueue::Forget(PendingCall* call) {
  call->queued = false;
  --size_;
  rows_ -= call->rows - call->entered;
}

void CallQueue::PopFront() {
  Lane* lane = FrontLane();
  Forget(lane->front().call);
  lane->pop_front();
}

PendingCall* CallQueue::Remove(CallId id) {
  for (Lane& lane : lanes_) {
    auto found = std::lower_bound(lane.begin(), lane.end(), id,
                                  [](const Entry& entry, CallId wanted) { return entry.id < wanted; });
    if (found == lane.end() || found->id != id) continue;
    PendingCall* call = found->call;
    if (call == nullptr || call->entered > 0) return nullptr;
    Forget(call);
    found->call = nullptr;
    return call;
  }
  return nullptr;
}

void CallQueue::RemoveIf(absl::FunctionRef<bool(PendingCall*)> predicate) {
  for (Lane& lane : lanes_) {
    lane.erase(std::remove_if(lane.begin(), lane.end(),
                              [&](const Entry& entry) {
                                if (entry.call == nullptr) return true;
                                if (!predicate(entry.call)) return false;
                                Forget(entry.call);
                                return true;
                              }),
               lane.end());
  }
}

SteadyTime CallQueue::Oldest() {
  SteadyTime oldest = SteadyTime::max();
  for (Lane& lane : lanes_) {
    while (!lane.empty() && lane.front().call == nullptr) lane.pop_front();
    if (!lane.empty()) oldest = std::min(oldest, lane.front().call->enqueued);
  }
  return oldest;
}

}  // namespace tfipu
