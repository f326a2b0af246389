// A scripted device for the tests of this folder.
#ifndef CC_ENGINE_FAKE_DEVICE_H_
#define CC_ENGINE_FAKE_DEVICE_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cc/device/device.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// The program that fake devices run has the feeds
//   x: int32[batch, kFakeWidth], k: int32[batch]  ->  y = 2 * x + k: int32[batch, kFakeWidth], next = k + 1:
//   int32[batch]
inline constexpr int kFakeWidth = 3;

struct FakeShape {
  int batch = 1;
  bool row_batching = false;
  std::vector<int> row_variants = {};  // rows of each
  int hold = 0;
  int iterations = 4;
  int replicas = 1;
  int timeout_us = 5000;
  int max_wait_us = 0;
  int startup_inputs = 0;  // each int32[2]
};

// Writes an executable of that shape into the test's folder and opens it; the same file for the same shape.
std::shared_ptr<const Executable> FakeExecutable(const FakeShape& shape);

// What the test tells the devices, and what they saw. Thread-safe.
class FakeScript {
 public:
  // A closed gate holds every step just before it is done, until it is opened or some steps are let through.
  void CloseGate();
  void OpenGate();
  void LetThrough(int steps);

  // Called for each step that is about to be done, with the number of steps before it; a failure ends the
  // run.
  std::function<std::optional<DeviceFailure>(int step, const Step&)> on_step;
  std::function<absl::Status()> on_reset;
  bool finish_in_other_thread = false;
  // Returns from Run() without being told to.
  bool leave_early = false;

  // Blocks until that many steps entered devices, dummies included, or were done.
  void AwaitEntered(int steps);
  void AwaitDone(int steps);

  int entered() const;
  int done() const;
  int devices() const;
  int destroyed() const;
  int resets() const;
  int loads() const;
  // Infeed x of each step in order of entry, empty for dummies; pointers for the tests of use in place.
  std::vector<std::vector<std::int32_t>> seen() const;
  std::vector<const void*> infeed_data() const;
  std::vector<const void*> outfeed_data() const;

 private:
  friend class FakeDevice;
  friend class FakeProgram;
  friend class FakeBackend;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int passes_ = 0;
  int entered_ = 0;
  int done_ = 0;
  int devices_ = 0;
  int destroyed_ = 0;
  int resets_ = 0;
  int loads_ = 0;
  std::vector<std::vector<std::int32_t>> seen_;
  std::vector<const void*> infeed_data_;
  std::vector<const void*> outfeed_data_;
};

std::shared_ptr<Program> FakeProgramOf(std::shared_ptr<FakeScript> script,
                                       std::shared_ptr<const Executable> executable);

// Loads any executable for an IPU as a fake program.
class FakeBackend : public Backend {
 public:
  explicit FakeBackend(std::shared_ptr<FakeScript> script) : script_(std::move(script)) {}
  Target::KindCase kind() const override { return Target::kIpu; }
  absl::Status Check(const ExecutableHeader& header) override { return absl::OkStatus(); }
  absl::StatusOr<std::shared_ptr<Program>> Load(std::shared_ptr<const Executable> executable) override;
  std::vector<Offer> Offers() override { return {}; }

 private:
  const std::shared_ptr<FakeScript> script_;
};

}  // namespace tfipu

#endif  // CC_ENGINE_FAKE_DEVICE_H_
