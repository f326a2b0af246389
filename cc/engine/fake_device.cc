#include "cc/engine/fake_device.h"

#include <cstdlib>
#include <deque>
#include <map>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/executable/test_executable.h"
#include "cc/executable/writer.h"

namespace tfipu {

std::shared_ptr<const Executable> FakeExecutable(const FakeShape& s) {
  static std::mutex mutex;
  static auto& made = *new std::map<std::string, std::shared_ptr<const Executable>>;
  const std::string name = absl::StrCat("fake_", s.batch, "_", s.row_batching, "_", s.hold, "_", s.iterations,
                                        "_", s.replicas, "_", s.timeout_us, "_", s.max_wait_us, "_",
                                        s.startup_inputs, "_", absl::StrJoin(s.row_variants, "_"));
  std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<const Executable>& executable = made[name];
  if (executable != nullptr) return executable;

  ExecutableHeader header = TestHeader();
  header.clear_stages();
  header.clear_startup_inputs();
  header.clear_infeeds();
  header.clear_outfeeds();
  header.clear_outfeed_values();
  header.clear_weights();
  header.clear_carried();
  header.set_iterations(s.iterations);
  header.set_hold(s.hold);
  header.set_replicas(s.replicas);
  header.set_timeout_us(s.timeout_us);
  header.set_max_wait_us(s.max_wait_us);
  header.set_dynamic_batch(s.row_batching);
  const auto set = [&](TensorSpec* spec, const char* spec_name, bool wide) {
    spec->set_name(spec_name);
    spec->set_type(INT32);
    spec->add_dims(s.batch);
    if (wide) spec->add_dims(kFakeWidth);
  };
  set(header.add_infeeds(), "x", true);
  set(header.add_infeeds(), "k", false);
  Stage* stage = header.add_stages();
  set(stage->add_results(), "y", true);
  set(stage->add_results(), "next", false);
  for (int i = 0; i < 2; ++i) {
    *header.add_outfeeds() = stage->results(i);
    ValueRef* value = header.add_outfeed_values();
    value->set_source(ValueRef::STAGE_RESULT);
    value->set_index(i);
    ValueRef* argument = stage->add_arguments();
    argument->set_source(ValueRef::INFEED);
    argument->set_index(i);
  }
  for (int i = 0; i < s.startup_inputs; ++i) {
    TensorSpec* spec = header.add_startup_inputs();
    spec->set_name(absl::StrCat("start_", i));
    spec->set_type(INT32);
    spec->add_dims(2);
  }
  for (const int rows : s.row_variants) {
    RowVariant* variant = header.add_row_variants();
    variant->set_rows(rows);
    *variant->add_stages() = *stage;
    for (TensorSpec& result : *variant->mutable_stages(0)->mutable_results()) result.set_dims(0, rows);
  }
  ExecutableWriter writer;
  AddTestBlobs(header, writer);
  const std::string path = TestPath(name);
  const absl::Status written = writer.Write(header, path);
  absl::StatusOr<std::shared_ptr<const Executable>> opened = Executable::Open(path);
  if (!written.ok() || !opened.ok()) {
    std::fprintf(stderr, "%s %s\n", written.ToString().c_str(), opened.status().ToString().c_str());
    std::abort();
  }
  return executable = *std::move(opened);
}

void FakeScript::CloseGate() {
  std::lock_guard<std::mutex> lock(mutex_);
  open_ = false;
}

void FakeScript::OpenGate() {
  std::lock_guard<std::mutex> lock(mutex_);
  open_ = true;
  changed_.notify_all();
}

void FakeScript::LetThrough(int steps) {
  std::lock_guard<std::mutex> lock(mutex_);
  passes_ += steps;
  changed_.notify_all();
}

void FakeScript::AwaitEntered(int steps) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return entered_ >= steps; });
}

void FakeScript::AwaitDone(int steps) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return done_ >= steps; });
}

#define TFIPU_FAKE_GETTER(type, name)         \
  type FakeScript::name() const {             \
    std::lock_guard<std::mutex> lock(mutex_); \
    return name##_;                           \
  }
TFIPU_FAKE_GETTER(int, entered)
TFIPU_FAKE_GETTER(int, done)
TFIPU_FAKE_GETTER(int, devices)
TFIPU_FAKE_GETTER(int, destroyed)
TFIPU_FAKE_GETTER(int, resets)
TFIPU_FAKE_GETTER(int, loads)
TFIPU_FAKE_GETTER(std::vector<std::vector<std::int32_t>>, seen)
TFIPU_FAKE_GETTER(std::vector<const void*>, infeed_data)
TFIPU_FAKE_GETTER(std::vector<const void*>, outfeed_data)
#undef TFIPU_FAKE_GETTER

class FakeDevice : public Device {
 public:
  FakeDevice(std::shared_ptr<FakeScript> script, const ExecutableHeader& header)
      : script_(std::move(script)),
        batch_(header.infeeds(1).dims(0)),
        row_batching_(header.dynamic_batch()),
        hold_(header.hold()),
        iterations_(header.iterations()) {}

  ~FakeDevice() override {
    std::lock_guard<std::mutex> lock(script_->mutex_);
    ++script_->destroyed_;
  }

  std::optional<DeviceFailure> Run(StepSource& source) override {
    failure_.reset();
    ended_ = false;
    std::thread finisher;
    if (script_->finish_in_other_thread) {
      finisher = std::thread([&] {
        while (FinishOne(source, /*wait=*/true)) {
        }
      });
    }
    std::uint64_t steps = 0;
    while (!script_->leave_early) {
      Step* step = source.NextStep();
      if (step == nullptr) break;
      Enter(step);
      if (++steps % iterations_ == 0) source.RunEnded();
      if (script_->finish_in_other_thread) continue;
      while (FinishOne(source, /*wait=*/false)) {
      }
      if (failure_.has_value()) break;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
      changed_.notify_all();
    }
    if (finisher.joinable()) finisher.join();
    while (!failure_.has_value() && FinishOne(source, /*wait=*/false)) {
    }
    std::lock_guard<std::mutex> lock(mutex_);
    held_.clear();
    return failure_;
  }

  absl::Status Reset() override {
    {
      std::lock_guard<std::mutex> lock(script_->mutex_);
      ++script_->resets_;
    }
    return script_->on_reset ? script_->on_reset() : absl::OkStatus();
  }

 private:
  static const std::int32_t* Ints(ConstBuffer buffer) {
    return reinterpret_cast<const std::int32_t*>(buffer.data());
  }

  int RowsOf(const Step& step) const {
    return !row_batching_ ? batch_ : static_cast<int>(step.computed_rows);
  }

  void Enter(Step* step) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      held_.push_back(step);
      changed_.notify_all();
    }
    std::lock_guard<std::mutex> lock(script_->mutex_);
    ++script_->entered_;
    script_->seen_.emplace_back();
    if (!step->dummy) {
      script_->seen_.back().assign(Ints(step->infeeds[0]),
                                   Ints(step->infeeds[0]) + RowsOf(*step) * kFakeWidth);
    }
    script_->infeed_data_.push_back(step->infeeds[0].data());
    script_->outfeed_data_.push_back(step->outfeeds[0].data());
    script_->changed_.notify_all();
  }

  // Finishes the oldest step if it may leave; false when none may, or the device failed.
  bool FinishOne(StepSource& source, bool wait) {
    Step* step;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (wait) changed_.wait(lock, [this] { return ended_ || held_.size() > hold_; });
      if (failure_.has_value() || held_.empty() || (held_.size() <= hold_ && !ended_)) return false;
      step = held_.front();
    }
    int before;
    {
      std::unique_lock<std::mutex> lock(script_->mutex_);
      script_->changed_.wait(lock, [this] { return script_->open_ || script_->passes_ > 0; });
      if (!script_->open_) --script_->passes_;
      before = script_->done_++;
    }
    std::optional<DeviceFailure> failure;
    if (script_->on_step) failure = script_->on_step(before, *step);
    if (failure.has_value()) {
      std::lock_guard<std::mutex> lock(mutex_);
      failure_ = std::move(failure);
      if (script_->finish_in_other_thread) source.Interrupt();
      return false;
    }
    if (!step->dummy) {
      const std::int32_t* x = Ints(step->infeeds[0]);
      const std::int32_t* k = Ints(step->infeeds[1]);
      auto* y = reinterpret_cast<std::int32_t*>(step->outfeeds[0].data());
      auto* next = reinterpret_cast<std::int32_t*>(step->outfeeds[1].data());
      for (int row = 0; row < RowsOf(*step); ++row) {
        for (int i = 0; i < kFakeWidth; ++i) y[row * kFakeWidth + i] = 2 * x[row * kFakeWidth + i] + k[row];
        next[row] = k[row] + 1;
      }
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      held_.pop_front();
    }
    source.StepDone(step);
    std::lock_guard<std::mutex> lock(script_->mutex_);
    script_->changed_.notify_all();
    return true;
  }

  const std::shared_ptr<FakeScript> script_;
  const int batch_;
  const bool row_batching_;
  const std::size_t hold_;
  const std::uint64_t iterations_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Step*> held_;
  std::optional<DeviceFailure> failure_;
  bool ended_ = false;
};

class FakeProgram : public Program {
 public:
  FakeProgram(std::shared_ptr<FakeScript> script, std::shared_ptr<const Executable> executable)
      : script_(std::move(script)), executable_(std::move(executable)) {}

  const Executable& executable() const override { return *executable_; }
  ExecutionMode execution_mode() const override {
    return executable_->header().hold() == 0 ? ExecutionMode::kStepByStep : ExecutionMode::kWithoutBreak;
  }

  absl::StatusOr<std::unique_ptr<Device>> CreateDevice(
      absl::Span<const ConstBuffer> startup_inputs) override {
    std::lock_guard<std::mutex> lock(script_->mutex_);
    ++script_->devices_;
    return std::make_unique<FakeDevice>(script_, executable_->header());
  }

 private:
  const std::shared_ptr<FakeScript> script_;
  const std::shared_ptr<const Executable> executable_;
};

std::shared_ptr<Program> FakeProgramOf(std::shared_ptr<FakeScript> script,
                                       std::shared_ptr<const Executable> executable) {
  return std::make_shared<FakeProgram>(std::move(script), std::move(executable));
}

absl::StatusOr<std::shared_ptr<Program>> FakeBackend::Load(std::shared_ptr<const Executable> executable) {
  {
    std::lock_guard<std::mutex> lock(script_->mutex_);
    ++script_->loads_;
  }
  return FakeProgramOf(script_, std::move(executable));
}

}  // namespace tfipu
