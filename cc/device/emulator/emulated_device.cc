#include "cc/device/emulator/emulated_device.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "cc/base/status_macros.h"
#include "cc/device/emulator/fault_injection.h"
#include "cc/device/emulator/floating_point.h"

namespace tfipu {
namespace {

// A step inside the device.
struct Entry {
  Step* step = nullptr;
  std::uint64_t number = 0;   // among the real steps of this Run()
  bool first_in_run = false;  // carried values have their initial ones
  std::size_t slot = 0;
};

// What one stage of one device needs to be called, allocated once.
struct StageBuffers {
  std::vector<ConstBuffer> arguments;
  std::vector<MutableBuffer> results;
};

class EmulatedDevice : public Device {
 public:
  EmulatedDevice(std::shared_ptr<const LoadedProgram> program, std::vector<AlignedBuffer> startup_inputs,
                 FaultInjection faults)
      : program_(std::move(program)),
        plan_(program_->whole.plan),
        header_(program_->executable->header()),
        watch_(header_.floating_point()),
        startup_inputs_(std::move(startup_inputs)),
        faults_(std::move(faults)),
        slots_(plan_.slots),
        carried_(plan_.carried_sizes.size()),
        stages_(plan_.stages.size()),
        temps_(plan_.lanes.size()),
        entries_(plan_.slots),
        slot_of_(plan_.slots),
        completed_(plan_.stages.size()),
        lanes_(plan_.lanes.size()) {
    for (auto& slot : slots_) {
      for (std::size_t i = 0; i < plan_.slot_sizes.size(); ++i) {
        std::size_t size = plan_.slot_sizes[i];
        for (const LoadedStages& variant : program_->variants) {
          size = std::max(size, variant.plan.slot_sizes[i]);
        }
        slot.emplace_back(size);
      }
    }
    for (std::size_t c = 0; c < carried_.size(); ++c) {
      for (AlignedBuffer& buffer : carried_[c].buffers) buffer = AlignedBuffer(plan_.carried_sizes[c]);
    }
    for (std::size_t s = 0; s < stages_.size(); ++s) {
      stages_[s].results.resize(plan_.stages[s].results.size());
      std::size_t temp_size = program_->whole.code[s]->temp_size();
      for (const LoadedStages& variant : program_->variants) {
        temp_size = std::max(temp_size, variant.code[s]->temp_size());
      }
      AlignedBuffer& temp = temps_[plan_.stages[s].lane];
      if (temp.size() < temp_size) temp = AlignedBuffer(temp_size);
    }
    for (std::size_t lane = plan_.first_lane_enters ? 1 : 0; lane < lanes_.size(); ++lane) {
      lanes_[lane].thread = std::thread([this, lane] { ServeLane(lane); });
      const std::string name = absl::StrCat("ipu", plan_.lanes[lane].ipu);
      pthread_setname_np(lanes_[lane].thread.native_handle(), name.substr(0, 15).c_str());
    }
  }

  ~EmulatedDevice() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      for (LaneState& lane : lanes_) lane.wake.Signal();
    }
    for (LaneState& lane : lanes_) {
      if (lane.thread.joinable()) lane.thread.join();
    }
  }

  std::optional<DeviceFailure> Run(StepSource& source) override {
    const ScopedFlushDenormals flush;
    {
      absl::MutexLock lock(&mutex_);
      if (failure_.has_value()) return failure_;
    }
    if (plan_.lanes.size() == 1 && header_.hold() == 0) return RunOneLane(source);
    return RunOverlapped(source);
  }

  absl::Status Reset() override {
    absl::MutexLock lock(&mutex_);
    failure_.reset();
    return absl::OkStatus();
  }

 private:
  struct CarriedBuffers {
    AlignedBuffer buffers[2];  // in turns: what a step reads, and what it writes
  };

  struct LaneState {
    std::thread thread;
    absl::CondVar wake;
    bool waiting = false;
  };

  // ---- one stage of one step ----

  ConstBuffer Resolve(const ValueRef& value, const Entry& entry) const {
    switch (value.source()) {
      case ValueRef::INFEED:
        return entry.step->infeeds[value.index()];
      case ValueRef::STARTUP_INPUT:
        return startup_inputs_[value.index()].span();
      case ValueRef::WEIGHT:
        return program_->executable->blob(header_.weights(value.index()).blob());
      case ValueRef::CARRIED:
        if (entry.first_in_run) return Resolve(header_.carried(value.index()).initial(), entry);
        return carried_[value.index()].buffers[entry.number % 2].span();
      default:
        return Locate(plan_.stages[value.stage()].results[value.index()], entry);
    }
  }

  MutableBuffer Locate(const Place& place, const Entry& entry) const {
    switch (place.memory) {
      case Place::Memory::kOutfeed:
        return entry.step->outfeeds[place.index];
      case Place::Memory::kCarried:
        return carried_[place.index].buffers[(entry.number + 1) % 2].span();
      default:
        return slots_[entry.slot][place.index].span();
    }
  }

  std::optional<DeviceFailure> Execute(std::uint32_t s, const Entry& entry) {
    const LoadedStages& loaded = program_->ForRows(entry.step->computed_rows);
    const StagePlan& stage = loaded.plan.stages[s];
    StageBuffers& buffers = stages_[s];
    if (s == 0 && !faults_.empty()) {
      if (std::optional<DeviceFailure> fault = faults_.At(steps_of_device_++)) return fault;
    }
    buffers.arguments.resize(stage.arguments.size());
    for (std::size_t i = 0; i < stage.arguments.size(); ++i) {
      buffers.arguments[i] = Resolve(stage.arguments[i], entry).subspan(0, stage.argument_sizes[i]);
    }
    for (std::size_t i = 0; i < stage.results.size(); ++i) {
      buffers.results[i] = Locate(stage.results[i], entry).subspan(0, stage.result_sizes[i]);
    }
    if (watch_.enabled()) watch_.Clear();
    const NativeCode& code = *loaded.code[s];
    const MutableBuffer temp = temps_[stage.lane].span().subspan(0, code.temp_size());
    const absl::Status status = code.Run(buffers.arguments, buffers.results, temp);
    if (ABSL_PREDICT_FALSE(!status.ok())) {
      return DeviceFailure{
          DeviceFailure::Kind::kApplicationError, "",
          absl::StrCat("stage ", s, " '", header_.stages(s).name(), "': ", status.message())};
    }
    if (watch_.enabled()) {
      if (const std::string raised = watch_.Raised(buffers.results, stage.result_types); !raised.empty()) {
        return DeviceFailure{DeviceFailure::Kind::kApplicationError, "",
                             absl::StrCat("floating-point exception in stage ", s, " '",
                                          header_.stages(s).name(), "': ", raised)};
      }
    }
    for (const Copy& copy : stage.copies) {
      std::memcpy(Locate(copy.to, entry).data(), Resolve(copy.from, entry).data(), copy.size);
    }
    return std::nullopt;
  }

  // ---- one lane, nothing held: no locks ----

  std::optional<DeviceFailure> RunOneLane(StepSource& source) {
    Entry entry;
    std::uint64_t entered = 0;
    entry.first_in_run = true;
    while ((entry.step = source.NextStep()) != nullptr) {
      if (!entry.step->dummy) {
        for (std::uint32_t s = 0; s < plan_.stages.size(); ++s) {
          if (std::optional<DeviceFailure> failure = Execute(s, entry)) {
            absl::MutexLock lock(&mutex_);
            return failure_ = failure;
          }
        }
        ++entry.number;
        entry.first_in_run = false;
      }
      source.StepDone(entry.step);
      if (++entered == header_.iterations()) {
        entered = 0;
        entry.first_in_run = true;
        source.RunEnded();
      }
    }
    return std::nullopt;
  }

  // ---- several lanes, or results that wait for further steps ----

  std::optional<DeviceFailure> RunOverlapped(StepSource& source) {
    absl::MutexLock lock(&mutex_);
    source_ = &source;
    entered_ = released_ = real_entered_ = in_run_ = 0;
    completed_.assign(completed_.size(), 0);
    ended_ = interrupted_ = false;
    running_ = true;
    bool first_in_run = true;
    while (!failure_.has_value()) {
      // A batch is taken only when there is room for it: until then it may still be answered by another
      // device.
      while (entered_ - released_ == plan_.slots && !failure_.has_value()) enter_.Wait(&mutex_);
      if (failure_.has_value()) break;
      waiting_for_source_ = true;
      Step* step = Unlocked([&] { return source.NextStep(); });
      waiting_for_source_ = false;
      // An interrupted source owes one nullptr, be it from the next call.
      while (interrupted_ && step != nullptr) step = Unlocked([&] { return source.NextStep(); });
      if (step == nullptr || failure_.has_value()) break;
      Enter(step, first_in_run);
      if (in_run_ == header_.iterations() && !failure_.has_value()) {
        in_run_ = 0;
        first_in_run = true;
        Unlocked([&] { source.RunEnded(); });
      }
    }
    ended_ = true;
    Release();
    while (failure_.has_value() ? busy_ > 0 || releasing_ : released_ < entered_) enter_.Wait(&mutex_);
    running_ = false;
    return failure_;
  }

  template <typename Function>
  std::invoke_result_t<Function> Unlocked(Function function) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    struct Unlock {
      explicit Unlock(absl::Mutex* mutex) : mutex(mutex) { mutex->Unlock(); }
      ~Unlock() { mutex->Lock(); }
      absl::Mutex* mutex;
    } unlock(&mutex_);
    return function();
  }

  void Enter(Step* step, bool& first_in_run) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Entry& entry = entries_[entered_ % plan_.slots];
    entry.step = step;
    entry.slot = entered_ % plan_.slots;
    entry.number = real_entered_;
    ++in_run_;
    ++entered_;
    if (!step->dummy) {
      entry.first_in_run = first_in_run;
      first_in_run = false;
      slot_of_[real_entered_ % plan_.slots] = entry.slot;
      ++real_entered_;
      WakeLanes();
      if (plan_.first_lane_enters) {
        for (std::uint32_t s : plan_.lanes[0].stages) {
          while (!failure_.has_value() && !Ready(s)) {
            lanes_[0].waiting = true;
            lanes_[0].wake.Wait(&mutex_);
            lanes_[0].waiting = false;
          }
          if (failure_.has_value()) return;
          Work(s);
        }
      }
    }
    Release();
  }

  bool Ready(std::uint32_t s) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::uint64_t number = completed_[s];
    if (number >= real_entered_) return false;
    for (const Wait& wait : plan_.stages[s].waits) {
      if (completed_[wait.stage] + wait.lag <= number) return false;
    }
    return true;
  }

  // Runs the next step of a stage that is ready.
  void Work(std::uint32_t s) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Entry entry = entries_[slot_of_[completed_[s] % plan_.slots]];
    ++busy_;
    std::optional<DeviceFailure> failure = Unlocked([&] { return Execute(s, entry); });
    --busy_;
    if (failure.has_value()) {
      Fail(*std::move(failure));
    } else {
      ++completed_[s];
      WakeLanes();
    }
    if (failure_.has_value()) enter_.Signal();
  }

  void Fail(DeviceFailure failure) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (failure_.has_value()) return;
    failure_ = std::move(failure);
    if (waiting_for_source_) {
      interrupted_ = true;
      source_->Interrupt();
    }
    for (LaneState& lane : lanes_) lane.wake.Signal();
    enter_.Signal();
  }

  void WakeLanes() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
      if (!lanes_[lane].waiting) continue;
      for (std::uint32_t s : plan_.lanes[lane].stages) {
        if (!Ready(s)) continue;
        lanes_[lane].waiting = false;
        lanes_[lane].wake.Signal();
        break;
      }
    }
  }

  void ServeLane(std::size_t lane) {
    const ScopedFlushDenormals flush;
    absl::MutexLock lock(&mutex_);
    while (!stopping_) {
      const std::optional<std::uint32_t> stage = Pick(lane);
      if (!stage.has_value()) {
        lanes_[lane].waiting = true;
        lanes_[lane].wake.Wait(&mutex_);
        lanes_[lane].waiting = false;
        continue;
      }
      Work(*stage);
      Release();
    }
  }

  // The last of the lane's stages that is ready: what is nearest to leaving goes first.
  std::optional<std::uint32_t> Pick(std::size_t lane) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!running_ || failure_.has_value()) return std::nullopt;
    const std::vector<std::uint32_t>& stages = plan_.lanes[lane].stages;
    for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
      if (Ready(*stage)) return *stage;
    }
    return std::nullopt;
  }

  // Whether the oldest step inside is computed and may leave.
  bool MayLeave() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (released_ == entered_ || failure_.has_value()) return false;
    const std::uint64_t run_end = (released_ / header_.iterations() + 1) * header_.iterations();
    if (!ended_ && entered_ < run_end && entered_ - released_ <= header_.hold()) return false;
    const Entry& entry = entries_[released_ % plan_.slots];
    if (entry.step->dummy) return true;
    for (std::uint64_t completed : completed_) {
      if (completed <= entry.number) return false;
    }
    return true;
  }

  // One thread hands out results at a time; what becomes ready meanwhile is left to it.
  void Release() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (releasing_) return;
    releasing_ = true;
    while (MayLeave()) {
      Step* step = entries_[released_ % plan_.slots].step;
      Unlocked([&] { source_->StepDone(step); });
      ++released_;
      enter_.Signal();
    }
    releasing_ = false;
    if (failure_.has_value()) enter_.Signal();
  }

  const std::shared_ptr<const LoadedProgram> program_;
  const Plan& plan_;
  const ExecutableHeader& header_;
  const ExceptionWatch watch_;
  const std::vector<AlignedBuffer> startup_inputs_;
  const FaultInjection faults_;
  std::uint64_t steps_of_device_ = 0;  // touched by stage 0 only

  std::vector<std::vector<AlignedBuffer>> slots_;
  std::vector<CarriedBuffers> carried_;
  std::vector<StageBuffers> stages_;
  std::vector<AlignedBuffer> temps_;  // one for each lane

  absl::Mutex mutex_;
  absl::CondVar enter_;  // for the thread inside Run()
  StepSource* source_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::size_t> slot_of_ ABSL_GUARDED_BY(mutex_);      // of real step n, at n modulo slots
  std::vector<std::uint64_t> completed_ ABSL_GUARDED_BY(mutex_);  // real steps, by stage
  std::vector<LaneState> lanes_;
  std::uint64_t entered_ ABSL_GUARDED_BY(mutex_) = 0;  // steps, with dummies
  std::uint64_t released_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t real_entered_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t in_run_ ABSL_GUARDED_BY(mutex_) = 0;
  int busy_ ABSL_GUARDED_BY(mutex_) = 0;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool releasing_ ABSL_GUARDED_BY(mutex_) = false;
  bool waiting_for_source_ ABSL_GUARDED_BY(mutex_) = false;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<DeviceFailure> failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeEmulatedDevice(std::shared_ptr<const LoadedProgram> program,
                                                           absl::Span<const ConstBuffer> startup_inputs) {
  const ExecutableHeader& header = program->executable->header();
  if (startup_inputs.size() != header.startup_inputs_size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Found ", startup_inputs.size(), " start-up inputs, expected ", header.startup_inputs_size()));
  }
  std::vector<AlignedBuffer> copies;
  for (int i = 0; i < header.startup_inputs_size(); ++i) {
    TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(header.startup_inputs(i)));
    if (startup_inputs[i].size() != size) {
      return absl::InvalidArgumentError(absl::StrCat("Found ", startup_inputs[i].size(),
                                                     " bytes for start-up input ", i, " '",
                                                     header.startup_inputs(i).name(), "', expected ", size,
                                                     " for ", ToString(header.startup_inputs(i))));
    }
    copies.emplace_back(size);
    if (size != 0) std::memcpy(copies.back().data(), startup_inputs[i].data(), size);
  }
  TFIPU_ASSIGN_OR_RETURN(FaultInjection faults, FaultInjection::FromEnvironment());
  return std::make_unique<EmulatedDevice>(std::move(program), std::move(copies), std::move(faults));
}

}  // namespace tfipu
