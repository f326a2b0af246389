// One loaded executable, running on its devices until it is stopped.
#ifndef CC_ENGINE_ENGINE_H_
#define CC_ENGINE_ENGINE_H_

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
  // Devices of an executable that does not say, if they are run step by step. Other executables have one.
  int automatic_replicas = 1;
  // Row batching: how long a row may wait for company. Not set: the executable's own.
  std::optional<absl::Duration> max_wait = std::nullopt;
  // Calls that may wait in the queue; one more is refused with ResourceExhausted. 0: no bound.
  std::size_t max_queued_calls = 0;
  // Called at the start of each thread that runs devices. Empty: nothing.
  std::function<void()> on_thread_start = nullptr;
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
  // Asked before the call enters a device, and now and then while it waits for one; when true, it is given up
  // with Cancelled. Reads a flag and no more, as the engine's lock may be held. Empty: never.
  std::function<bool()> cancelled = nullptr;
  // Gets, before `done`, how long the call waited for a device that others used; not the time that its rows
  // wait for company. May be null.
  absl::Duration* waited = nullptr;
  // Called exactly once, from a thread of the engine or one that is inside a method of it. Must not block for
  // long.
  std::function<void(absl::Status)> done;
};

using CallId = std::uint64_t;

class EngineCore;

// Iteration-level batching: concurrent calls fill the steps of the running main program in order of arrival
// (those of high priority first), and each is answered as soon as its own steps are done.
//
// States: running -> (unrecoverable failure) -> failed: every later call gets the failure
//                 -> Stop() -> stopped: every later call gets Cancelled
// A recoverable failure fails the calls inside the failed device and in the queue, resets it, and the engine
// stays running; calls inside other replicas are not touched.
//
// Thread-safe. The engine owns one thread per replica and, from the first call on that may end before it is
// answered, one that watches those. `done` of a call may do anything but block: stop or drop the engine, too.
class Engine {
 public:
  // Creates the devices and starts them. Fails with what Program::CreateDevice() or the sizes of the start-up
  // inputs give; the error names the engine.
  static absl::StatusOr<std::shared_ptr<Engine>> Start(EngineOptions options,
                                                       std::shared_ptr<Program> program,
                                                       absl::Span<const ConstBuffer> startup_inputs);

  explicit Engine(std::shared_ptr<EngineCore> core);
  // Stops.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues the call and returns; a thread of the engine runs it. Every outcome, an invalid call included,
  // reaches call.done. The returned id serves Cancel().
  CallId Enqueue(Call call);

  // Queues the call and wakes nobody, for calls that come together: whoever adds calls lets them run with
  // RunHere() or Wake() soon after.
  CallId Add(Call call);

  // Wakes a thread of the engine, if one is needed for what is queued.
  void Wake();

  enum class Patience {
    kShort,  // what is expected to take no longer than kShortWork
    kAny,    // the next step whatever it takes, as the thread has nothing better to do
  };
  // Runs a device in the calling thread if one is free, there is work for it and the patience suffices: as
  // many steps as were queued, but none that would begin after kShortWork (kAny: the first excepted). Leaves
  // the rest to the engine's threads, as Wake(). Never waits.
  void RunHere(Patience patience);

  // Takes a call that has not entered a device out of the queue: its `done` gets Cancelled before this
  // returns true. False: it is inside a device, was answered already, or never existed.
  bool Cancel(CallId id);

  // Ends the devices' threads. Calls in the queue get Cancelled; calls wholly inside a device are finished.
  // Idempotent; returns when no thread of the engine runs any more (but the calling one, when that is one of
  // them).
  void Stop();

  // Whether Stop() was called.
  bool stopped() const;

  const std::string& name() const;
  const Executable& executable() const;
  EngineStatistics Statistics() const;

 private:
  const std::shared_ptr<EngineCore> core_;
};

}  // namespace tfipu

#endif  // CC_ENGINE_ENGINE_H_
