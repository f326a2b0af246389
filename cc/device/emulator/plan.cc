#include "cc/device/emulator/plan.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "cc/base/status_macros.h"
#include "cc/executable/executable.h"

namespace tfipu {
namespace {

absl::StatusOr<std::size_t> SizeOf(const ExecutableHeader& header, const ValueRef& value) {
  switch (value.source()) {
    case ValueRef::INFEED:
      return TensorSize(header.infeeds(value.index()));
    case ValueRef::STARTUP_INPUT:
      return TensorSize(header.startup_inputs(value.index()));
    case ValueRef::WEIGHT:
      return TensorSize(header.weights(value.index()).spec());
    case ValueRef::CARRIED:
      return TensorSize(header.carried(value.index()).spec());
    default:
      return TensorSize(header.stages(value.stage()).results(value.index()));
  }
}

class Planner {
 public:
  explicit Planner(const ExecutableHeader& header) : header_(header) {}

  absl::StatusOr<Plan> Make() {
    AssignLanes();
    TFIPU_RETURN_IF_ERROR(PlaceResults());
    TFIPU_RETURN_IF_ERROR(FillOutfeeds());
    TFIPU_RETURN_IF_ERROR(FillCarried());
    for (std::uint32_t s = 0; s < plan_.stages.size(); ++s) AddWaits(s);
    if (plan_.lanes.size() > 1) {
      const std::size_t inside = std::max<std::size_t>(header_.hold(), plan_.lanes.size() - 1);
      plan_.slots = inside + 2;
    } else {
      plan_.slots = header_.hold() + 1;
    }
    return std::move(plan_);
  }

 private:
  void AssignLanes() {
    plan_.stages.resize(header_.stages_size());
    for (std::uint32_t s = 0; s < plan_.stages.size(); ++s) {
      const std::uint32_t ipu =
          header_.schedule() == SEQUENTIAL ? header_.stages(0).ipu() : header_.stages(s).ipu();
      std::uint32_t lane = 0;
      while (lane < plan_.lanes.size() && plan_.lanes[lane].ipu != ipu) ++lane;
      if (lane == plan_.lanes.size()) plan_.lanes.push_back({ipu, {}});
      plan_.lanes[lane].stages.push_back(s);
      plan_.stages[s].lane = lane;
    }
  }

  // A result goes straight to where it is wanted first; other places get copies.
  absl::Status PlaceResults() {
    for (int s = 0; s < header_.stages_size(); ++s) {
      StagePlan& stage = plan_.stages[s];
      for (const ValueRef& argument : header_.stages(s).arguments()) {
        TFIPU_ASSIGN_OR_RETURN(const std::size_t size, SizeOf(header_, argument));
        stage.arguments.push_back(argument);
        stage.argument_sizes.push_back(size);
      }
      for (int r = 0; r < header_.stages(s).results_size(); ++r) {
        const TensorSpec& spec = header_.stages(s).results(r);
        TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(spec));
        stage.result_sizes.push_back(size);
        stage.result_types.push_back(spec.type());
        if (std::optional<Place> place = DirectPlace(s, r)) {
          stage.results.push_back(*place);
        } else {
          stage.results.push_back(
              {Place::Memory::kSlot, static_cast<std::uint32_t>(plan_.slot_sizes.size())});
          plan_.slot_sizes.push_back(size);
        }
      }
    }
    return absl::OkStatus();
  }

  static bool Is(const ValueRef& value, std::uint32_t stage, std::uint32_t index) {
    return value.source() == ValueRef::STAGE_RESULT && value.stage() == stage && value.index() == index;
  }

  std::optional<Place> DirectPlace(std::uint32_t stage, std::uint32_t index) const {
    for (int i = 0; i < header_.outfeed_values_size(); ++i) {
      if (Is(header_.outfeed_values(i), stage, index)) {
        return Place{Place::Memory::kOutfeed, static_cast<std::uint32_t>(i)};
      }
    }
    // A carried value's buffer is written again two steps later: another stage might still read it as a
    // result.
    for (const Stage& reader : header_.stages()) {
      for (const ValueRef& argument : reader.arguments()) {
        if (Is(argument, stage, index)) return std::nullopt;
      }
    }
    for (int i = 0; i < header_.carried_size(); ++i) {
      if (Is(header_.carried(i).next(), stage, index)) {
        return Place{Place::Memory::kCarried, static_cast<std::uint32_t>(i)};
      }
    }
    return std::nullopt;
  }

  absl::Status FillOutfeeds() {
    for (int i = 0; i < header_.outfeed_values_size(); ++i) {
      const ValueRef& value = header_.outfeed_values(i);
      const Place place{Place::Memory::kOutfeed, static_cast<std::uint32_t>(i)};
      std::uint32_t stage = 0;
      if (value.source() == ValueRef::STAGE_RESULT) stage = value.stage();
      // Before the next value is written over it, which the stage that writes it does no earlier than a step
      // later.
      if (value.source() == ValueRef::CARRIED) stage = header_.carried(value.index()).next().stage();
      TFIPU_RETURN_IF_ERROR(CopyUnlessThere(stage, value, place));
    }
    return absl::OkStatus();
  }

  absl::Status FillCarried() {
    for (int i = 0; i < header_.carried_size(); ++i) {
      const ValueRef& next = header_.carried(i).next();
      TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(header_.carried(i).spec()));
      plan_.carried_sizes.push_back(size);
      TFIPU_RETURN_IF_ERROR(
          CopyUnlessThere(next.stage(), next, {Place::Memory::kCarried, static_cast<std::uint32_t>(i)}));
    }
    return absl::OkStatus();
  }

  absl::Status CopyUnlessThere(std::uint32_t stage, const ValueRef& value, Place place) {
    if (value.source() == ValueRef::STAGE_RESULT) {
      const Place at = plan_.stages[value.stage()].results[value.index()];
      if (at.memory == place.memory && at.index == place.index) return absl::OkStatus();
    }
    TFIPU_ASSIGN_OR_RETURN(const std::size_t size, SizeOf(header_, value));
    plan_.stages[stage].copies.push_back({value, place, size});
    return absl::OkStatus();
  }

  void AddWaits(std::uint32_t s) {
    std::set<std::pair<std::uint32_t, std::uint64_t>> waits;
    for (const ValueRef& argument : plan_.stages[s].arguments) {
      if (argument.source() == ValueRef::STAGE_RESULT) waits.emplace(argument.stage(), 0);
      if (argument.source() == ValueRef::CARRIED) {
        waits.emplace(header_.carried(argument.index()).next().stage(), 1);
      }
    }
    // Carried values have two buffers: the next value goes where the readers of the step before still may be
    // reading.
    for (int c = 0; c < header_.carried_size(); ++c) {
      if (header_.carried(c).next().stage() != s) continue;
      for (std::uint32_t reader = 0; reader < plan_.stages.size(); ++reader) {
        for (const ValueRef& argument : plan_.stages[reader].arguments) {
          if (argument.source() == ValueRef::CARRIED && argument.index() == c) waits.emplace(reader, 1);
        }
      }
    }
    for (const auto& [stage, lag] : waits) {
      if (stage == s) continue;  // a stage does its steps in order
      plan_.stages[s].waits.push_back({stage, lag});
      if (plan_.stages[s].lane == 0 && plan_.stages[stage].lane != 0 && lag == 0)
        plan_.first_lane_enters = false;
    }
  }

  const ExecutableHeader& header_;
  Plan plan_;
};

}  // namespace

absl::StatusOr<Plan> Plan::Make(const ExecutableHeader& header) { return Planner(header).Make(); }

}  // namespace tfipu
