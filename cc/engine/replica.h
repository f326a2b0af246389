// A device of an engine, and the steps it works on.
#ifndef CC_ENGINE_REPLICA_H_
#define CC_ENGINE_REPLICA_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "cc/device/device.h"
#include "cc/engine/call_queue.h"
#include "cc/engine/engine_step.h"

namespace tfipu {

// The thread of a caller that runs a device.
struct VisitingCaller {
  SteadyTime came;
  std::int64_t rows_left = 0;  // of those that were queued when it came
  std::optional<SteadyTime> rows_done;
};

// Owned by an EngineCore, whose mutex guards all but `device`.
struct Replica {
  std::unique_ptr<Device> device;
  std::deque<std::unique_ptr<EngineStep>> inside;  // in order of entry
  std::vector<std::unique_ptr<EngineStep>> free;
  int real_inside = 0;
  int dummies_since_real = 0;
  bool flushing = false;     // stalled: dummies enter without waiting again
  bool interrupted = false;  // the device wants to return from Run()
  bool told_to_end = false;
  // Of devices that are run step by step:
  std::uint64_t steps_in_run = 0;
  VisitingCaller* caller = nullptr;  // null: a thread of the engine runs it, or nobody does

  // A step that is counted as inside the device. Changes nothing when memory is short and this throws.
  EngineStep* NewStep(std::int64_t rows) {
    free.reserve(free.size() + inside.size() + 1);  // so that steps can always go back
    if (free.empty()) {
      auto step = std::make_unique<EngineStep>();
      step->Reserve(rows);
      free.push_back(std::move(step));
    }
    inside.emplace_back();
    inside.back() = std::move(free.back());
    free.pop_back();
    inside.back()->Clear();
    return inside.back().get();
  }
  // The step that NewStep() gave last is not needed.
  void DropNewest() {
    free.push_back(std::move(inside.back()));
    inside.pop_back();
  }
  // All that was inside is gone, as the device has returned from Run().
  void Forget() {
    for (std::unique_ptr<EngineStep>& step : inside) free.push_back(std::move(step));
    inside.clear();
    real_inside = 0;
    dummies_since_real = 0;
    flushing = false;
    interrupted = false;
    told_to_end = false;
  }
};

}  // namespace tfipu

#endif  // CC_ENGINE_REPLICA_H_
