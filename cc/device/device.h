// What an engine needs of a device. Each kind of device is a folder beside this file that implements it, and
// a line in installed/installed_backends.cc.
//
// Backend --Load--> Program --CreateDevice--> Device --Run--> steps
#ifndef CC_DEVICE_DEVICE_H_
#define CC_DEVICE_DEVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cc/base/buffer.h"
#include "cc/executable/executable.h"

namespace tfipu {

// What went wrong on a device, in the terms that decide what happens next.
struct DeviceFailure {
  enum class Kind {
    kApplicationError,  // the program's own fault (floating-point exception, assertion): reset and go on
    kRecoverableReset,  // recoverable by IPU_RESET: reset and go on
    kRecoverableOther,  // recoverable, but not by us: every later call fails
    kDeviceError,       // any other device error: every later call fails
    kUnknown,           // every later call fails
  };
  Kind kind = Kind::kUnknown;
  std::string recovery_action;  // "IPU_RESET", ...; empty when there is none
  std::string reason;
};

// The buffers of one step of the main program, in the order of the executable's infeeds and outfeeds. Each
// infeed and outfeed has the executable's size (see computed_rows) and is aligned to kBufferAlignment. Owned
// by the StepSource; the device may touch the buffers from NextStep() until StepDone() and not after.
struct Step {
  std::vector<ConstBuffer> infeeds;
  std::vector<MutableBuffer> outfeeds;
  // A dummy step carries no data: it only makes room for the steps before it to leave the device.
  bool dummy = false;
  // Row batching: how many rows the feeds have, the batch's or those of one of the executable's row_variants;
  // there is room for no more.
  std::int64_t computed_rows = 0;
};

// Gives a running device its batches and takes its results. Implemented by the engine, called by the device.
class StepSource {
 public:
  virtual ~StepSource() = default;

  // Blocks until there is a batch to enter. Returns nullptr when the device is to stop: it then finishes all
  // steps it holds and returns from Run(). Called by the thread that is inside Device::Run(), one call at a
  // time.
  virtual Step* NextStep() = 0;

  // The step's results are in its outfeeds. Called once for each step that NextStep() returned, in that
  // order, from any one thread of the device at a time. Cheap: what waits for the results is told, no more.
  virtual void StepDone(Step* step) = 0;

  // A run of the main program (`iterations` steps) has ended and the next begins. Called from the thread in
  // Run().
  virtual void RunEnded() = 0;

  // Makes the NextStep() that waits, or else the next one, return nullptr at once. For a device that has
  // failed in another thread while the thread in Run() waits for a batch that will be of no use. From any
  // thread of the device.
  virtual void Interrupt() {}
};

// The devices, emulated or real, that one copy of a program takes.
//
// States: idle -> Run() -> running -> (NextStep() returns nullptr) -> idle
//                                  -> (failure) -> failed -> Reset() -> idle
// Run() and Reset() are called by one thread at a time, not always the same one. The device's own threads
// live as long as the device.
class Device {
 public:
  virtual ~Device() = default;

  // Runs the main program over and over. Returns nothing when the source ended it, or the failure that did.
  // After a failure no thread of the device touches any step any more; StepDone() has not been called for
  // those it held.
  virtual std::optional<DeviceFailure> Run(StepSource& source) = 0;

  // Makes the device usable after a failure: carried values and stages are as after loading.
  virtual absl::Status Reset() = 0;
};

// How the devices of a program are to be run.
enum class ExecutionMode {
  // No step depends on another, and each leaves as soon as it is computed: Run() may end after any step, and
  // the next one begin in another thread.
  kStepByStep,
  // Steps are held back until others enter, or carry values to the next: leaving Run() would lose them.
  kWithoutBreak,
};

// An executable that was loaded: code and weights in memory, shared by all devices made from it. Thread-safe.
class Program {
 public:
  virtual ~Program() = default;
  virtual const Executable& executable() const = 0;
  virtual ExecutionMode execution_mode() const = 0;

  // A device that runs this program. `startup_inputs` (as many, and of the sizes, the executable says) are
  // copied.
  virtual absl::StatusOr<std::unique_ptr<Device>> CreateDevice(
      absl::Span<const ConstBuffer> startup_inputs) = 0;
};

// What a kind of device offers in this process, in the terms of an executable's target.
struct Offer {
  Target target;
  absl::Status status;  // why it cannot be used, as far as that is known
};

// A kind of device. Thread-safe; lives until the process ends.
class Backend {
 public:
  virtual ~Backend() = default;

  // The kind of target that it loads.
  virtual Target::KindCase kind() const = 0;

  // OK, or the first difference between what the executable is for and what is here, naming both and what to
  // do: InvalidArgument, or what the device itself says. Looks at the header only, which is of this kind. May
  // take as long as starting the device does.
  virtual absl::Status Check(const ExecutableHeader& header) = 0;

  // Puts the executable's code into memory, without generating any, and runs it once so that the first call
  // is as fast as the others. The executable has passed Check(). FailedPrecondition or InvalidArgument when
  // this machine cannot run it, naming why.
  virtual absl::StatusOr<std::shared_ptr<Program>> Load(std::shared_ptr<const Executable> executable) = 0;

  // For people who compare.
  virtual std::vector<Offer> Offers() = 0;
};

}  // namespace tfipu

#endif  // CC_DEVICE_DEVICE_H_
