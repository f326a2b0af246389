// One loaded executable, running on its devices until it is stopped.
#ifndef CC_ENGINE_ENGINE_H_
#define CC_ENGINE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cc/base/buffer.h"
#include "cc/device/device.h"
#include "cc/engine/statistics.h"

namespace tfipu {

struct EngineOptions {
  std::string name = "";
  // With no further batch for this long while real calls are inside a device that holds results, a dummy step
  // is entered. Not set: the executable's own.
  std::optional<absl::Duration> timeout = std::nullopt;
  // Devices behind the queue. 0: as many as the executable says.
  int replicas = 0;
  // Devices of an executable that does not say, if its steps do not depend on each other: none is held back
  // and no value is carried. Other executables have one.
  int automatic_replicas = 1;
  // Row batching: how long a row may wait for company. Not set: the executable's own.
  std::optional<absl::Duration> max_wait = std::nullopt;
  // Calls that may wait in the queue; one more is refused with ResourceExhausted. 0: no bound.
  std::size_t max_queued_calls = 0;
};

enum class Priority { kNormal, kHigh };

// One request for one or, with row batching, any number of rows. The buffers belong to the caller, are read
// and written by the engine, and must live until `done` was called. Aligned buffers are used in place.
struct Call {
  std::vector<ConstBuffer> infeeds;     // one for each infeed of the executable
  std::vector<MutableBuffer> outfeeds;  // one for each outfeed
  std::int64_t rows = 0;                // row batching only: leading dimension of every feed, >= 0
  absl::Time deadline = absl::InfiniteFuture();
  Priority priority = Priority::kNormal;
  // For a caller that waits for the answer anyway: its thread may run the device if that is free, so that no
  // thread need be woken, twice, for a short step. Enqueue() then returns after the answer.
  bool run_here = false;
  // Gets, before `done`, how long the call waited for a device that others used; not the time that its rows
  // wait for company. May be null.
  absl::Duration* waited = nullptr;
  // Called exactly once, from a thread of the engine or from inside Enqueue(). Must not block for long.
  std::function<void(absl::Status)> done;
};

using CallId = std::uint64_t;

// Iteration-level batching: concurrent calls fill the steps of the running main program in order of arrival
// (those of high priority first), and each is answered as soon as its own steps are done.
//
// States: running -> (unrecoverable failure) -> failed: every later call gets the failure
//                 -> Stop() -> stopped: every later call gets Cancelled
// A recoverable failure fails the calls inside the failed device and in the queue, resets it, and the engine
// stays running; calls inside other replicas are not touched.
//
// Thread-safe. The engine owns one thread per replica and, from the first call with a deadline on, one that
// answers calls whose deadline passes in the queue. `done` of a call may do anything but block: stop or drop
// the engine, too.
class Engine {
 public:
  // Creates the devices and starts them. Fails with what Program::CreateDevice() or the sizes of the start-up
  // inputs give; the error names the engine.
  static absl::StatusOr<std::shared_ptr<Engine>> Start(EngineOptions options,
                                                       std::shared_ptr<Program> program,
                                                       absl::Span<const ConstBuffer> startup_inputs);

  // Stops.
  virtual ~Engine() = default;

  // Queues the call. Every outcome, an invalid call included, reaches call.done. The returned id serves
  // Cancel().
  virtual CallId Enqueue(Call call) = 0;

  // Takes a call that has not entered a device out of the queue: its `done` gets Cancelled before this
  // returns true. False: it is inside a device, was answered already, or never existed.
  virtual bool Cancel(CallId id) = 0;

  // Ends the devices' threads. Calls in the queue get Cancelled; calls wholly inside a device are finished.
  // Idempotent; returns when no thread of the engine runs any more (but the calling one, when that is one of
  // them).
  virtual void Stop() = 0;

  virtual const std::string& name() const = 0;
  virtual const Executable& executable() const = 0;
  virtual EngineStatistics Statistics() const = 0;
};

}  // namespace tfipu

#endif  // CC_ENGINE_ENGINE_H_
