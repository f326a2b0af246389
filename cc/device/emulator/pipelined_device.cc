#include "cc/device/emulator/pipelined_device.h"

#include <pthread.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/device/emulator/floating_point.h"

namespace tfipu {

PipelinedDevice::PipelinedDevice(std::unique_ptr<StageRunner> runner)
    : runner_(std::move(runner)),
      entries_(plan().slots),
      slot_of_(plan().slots),
      completed_(plan().stages.size()),
      lanes_(plan().lanes.size()) {
  for (std::size_t lane = plan().first_lane_enters ? 1 : 0; lane < lanes_.size(); ++lane) {
    lanes_[lane].thread = std::thread([this, lane] { ServeLane(lane); });
    const std::string name = absl::StrCat("ipu", plan().lanes[lane].ipu);
    pthread_setname_np(lanes_[lane].thread.native_handle(), name.substr(0, 15).c_str());
  }
}

PipelinedDevice::~PipelinedDevice() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    for (LaneState& lane : lanes_) lane.wake.Signal();
  }
  for (LaneState& lane : lanes_) {
    if (lane.thread.joinable()) lane.thread.join();
  }
}

std::optional<DeviceFailure> PipelinedDevice::Run(StepSource& source) {
  const ScopedFlushDenormals flush;
  absl::MutexLock lock(&mutex_);
  if (failure_.has_value()) return failure_;
  source_ = &source;
  entered_ = released_ = real_entered_ = in_run_ = 0;
  completed_.assign(completed_.size(), 0);
  ended_ = interrupted_ = false;
  running_ = true;
  bool first_in_run = true;
  while (!failure_.has_value()) {
    // A batch is taken only when there is room for it: until then it may still be answered by another
    // device.
    while (entered_ - released_ == plan().slots && !failure_.has_value()) enter_.Wait(&mutex_);
    if (failure_.has_value()) break;
    waiting_for_source_ = true;
    Step* step = Unlocked([&] { return source.NextStep(); });
    waiting_for_source_ = false;
    // An interrupted source owes one nullptr, be it from the next call.
    while (interrupted_ && step != nullptr) step = Unlocked([&] { return source.NextStep(); });
    if (step == nullptr || failure_.has_value()) break;
    Enter(step, first_in_run);
    if (in_run_ == header().iterations() && !failure_.has_value()) {
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

void PipelinedDevice::Enter(Step* step, bool& first_in_run) {
  StepInside& inside = entries_[entered_ % plan().slots];
  inside.step = step;
  inside.slot = entered_ % plan().slots;
  inside.number = real_entered_;
  ++in_run_;
  ++entered_;
  if (!step->dummy) {
    inside.first_in_run = first_in_run;
    first_in_run = false;
    slot_of_[real_entered_ % plan().slots] = inside.slot;
    ++real_entered_;
    WakeLanes();
    if (plan().first_lane_enters) {
      for (std::uint32_t s : plan().lanes[0].stages) {
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

bool PipelinedDevice::Ready(std::uint32_t s) const {
  const std::uint64_t number = completed_[s];
  if (number >= real_entered_) return false;
  for (const Wait& wait : plan().stages[s].waits) {
    if (completed_[wait.stage] + wait.lag <= number) return false;
  }
  return true;
}

void PipelinedDevice::Work(std::uint32_t s) {
  const StepInside inside = entries_[slot_of_[completed_[s] % plan().slots]];
  ++busy_;
  std::optional<DeviceFailure> failure = Unlocked([&] { return runner_->Execute(s, inside); });
  --busy_;
  if (failure.has_value()) {
    Fail(*std::move(failure));
  } else {
    ++completed_[s];
    WakeLanes();
  }
  if (failure_.has_value()) enter_.Signal();
}

void PipelinedDevice::Fail(DeviceFailure failure) {
  if (failure_.has_value()) return;
  failure_ = std::move(failure);
  if (waiting_for_source_) {
    interrupted_ = true;
    source_->Interrupt();
  }
  for (LaneState& lane : lanes_) lane.wake.Signal();
  enter_.Signal();
}

void PipelinedDevice::WakeLanes() {
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane) {
    if (!lanes_[lane].waiting) continue;
    for (std::uint32_t s : plan().lanes[lane].stages) {
      if (!Ready(s)) continue;
      lanes_[lane].waiting = false;
      lanes_[lane].wake.Signal();
      break;
    }
  }
}

void PipelinedDevice::ServeLane(std::size_t lane) {
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

std::optional<std::uint32_t> PipelinedDevice::Pick(std::size_t lane) const {
  if (!running_ || failure_.has_value()) return std::nullopt;
  const std::vector<std::uint32_t>& stages = plan().lanes[lane].stages;
  for (auto stage = stages.rbegin(); stage != stages.rend(); ++stage) {
    if (Ready(*stage)) return *stage;
  }
  return std::nullopt;
}

bool PipelinedDevice::MayLeave() const {
  if (released_ == entered_ || failure_.has_value()) return false;
  const std::uint64_t run_end = (released_ / header().iterations() + 1) * header().iterations();
  if (!ended_ && entered_ < run_end && entered_ - released_ <= header().hold()) return false;
  const StepInside& inside = entries_[released_ % plan().slots];
  if (inside.step->dummy) return true;
  for (std::uint64_t completed : completed_) {
    if (completed <= inside.number) return false;
  }
  return true;
}

void PipelinedDevice::Release() {
  if (releasing_) return;
  releasing_ = true;
  while (MayLeave()) {
    Step* step = entries_[released_ % plan().slots].step;
    Unlocked([&] { source_->StepDone(step); });
    ++released_;
    enter_.Signal();
  }
  releasing_ = false;
  if (failure_.has_value()) enter_.Signal();
}

absl::Status PipelinedDevice::Reset() {
  absl::MutexLock lock(&mutex_);
  failure_.reset();
  return absl::OkStatus();
}

}  // namespace tfipu
