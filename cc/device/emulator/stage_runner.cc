#include "cc/device/emulator/stage_runner.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tfipu {

StageRunner::StageRunner(std::shared_ptr<const LoadedProgram> program,
                         std::vector<AlignedBuffer> startup_inputs, FaultInjection faults)
    : program_(std::move(program)),
      plan_(program_->whole.plan),
      header_(program_->executable->header()),
      watch_(header_.floating_point()),
      startup_inputs_(std::move(startup_inputs)),
      faults_(std::move(faults)),
      slots_(plan_.slots),
      carried_(plan_.carried_sizes.size()),
      stages_(plan_.stages.size()),
      temps_(plan_.lanes.size()) {
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
}

ConstBuffer StageRunner::Resolve(const ValueRef& value, const StepInside& inside) const {
  switch (value.source()) {
    case ValueRef::INFEED:
      return inside.step->infeeds[value.index()];
    case ValueRef::STARTUP_INPUT:
      return startup_inputs_[value.index()].span();
    case ValueRef::WEIGHT:
      return program_->executable->blob(header_.weights(value.index()).blob());
    case ValueRef::CARRIED:
      if (inside.first_in_run) return Resolve(header_.carried(value.index()).initial(), inside);
      return carried_[value.index()].buffers[inside.number % 2].span();
    default:
      return Locate(plan_.stages[value.stage()].results[value.index()], inside);
  }
}

MutableBuffer StageRunner::Locate(const Place& place, const StepInside& inside) const {
  switch (place.memory) {
    case Place::Memory::kOutfeed:
      return inside.step->outfeeds[place.index];
    case Place::Memory::kCarried:
      return carried_[place.index].buffers[(inside.number + 1) % 2].span();
    default:
      return slots_[inside.slot][place.index].span();
  }
}

std::optional<DeviceFailure> StageRunner::Execute(std::uint32_t s, const StepInside& inside) {
  const LoadedStages& loaded = program_->ForRows(inside.step->computed_rows);
  const StagePlan& stage = loaded.plan.stages[s];
  StageBuffers& buffers = stages_[s];
  if (s == 0 && !faults_.empty()) {
    if (std::optional<DeviceFailure> fault = faults_.At(steps_of_device_++)) return fault;
  }
  buffers.arguments.resize(stage.arguments.size());
  for (std::size_t i = 0; i < stage.arguments.size(); ++i) {
    buffers.arguments[i] = Resolve(stage.arguments[i], inside).subspan(0, stage.argument_sizes[i]);
  }
  for (std::size_t i = 0; i < stage.results.size(); ++i) {
    buffers.results[i] = Locate(stage.results[i], inside).subspan(0, stage.result_sizes[i]);
  }
  if (watch_.enabled()) watch_.Clear();
  const NativeCode& code = *loaded.code[s];
  const MutableBuffer temp = temps_[stage.lane].span().subspan(0, code.temp_size());
  const absl::Status status = code.Run(buffers.arguments, buffers.results, temp);
  if (ABSL_PREDICT_FALSE(!status.ok())) {
    return DeviceFailure{DeviceFailure::Kind::kApplicationError, "",
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
    std::memcpy(Locate(copy.to, inside).data(), Resolve(copy.from, inside).data(), copy.size);
  }
  return std::nullopt;
}

}  // namespace tfipu
