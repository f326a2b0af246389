#include "cc/compiler/weight_lifting.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "cc/compiler/element_type.h"
#include "xla/hlo/ir/hlo_computation.h"
#include "xla/hlo/ir/hlo_instruction.h"
#include "xla/hlo/transforms/simplifiers/hlo_constant_folding.h"
#include "xla/layout_util.h"
#include "xla/service/call_inliner.h"
#include "xla/shape_util.h"

namespace tfipu {
namespace {

bool WorthLifting(const xla::HloInstruction& constant, std::uint64_t threshold) {
  const xla::Shape& shape = constant.shape();
  if (!shape.IsArray() || FromXlaType(shape.element_type()) == INVALID) return false;
  if (static_cast<std::uint64_t>(xla::ShapeUtil::ByteSizeOf(shape)) < threshold) return false;
  return !constant.literal().IsAllFirst() && !constant.literal().IsR1Iota();
}

}  // namespace

absl::StatusOr<std::vector<LiftedWeight>> LiftWeights(xla::HloModule& module, std::uint64_t threshold) {
  xla::CallInliner inliner;
  if (auto changed = inliner.Run(&module); !changed.ok()) return changed.status();
  xla::HloConstantFolding folding;
  if (auto changed = folding.Run(&module); !changed.ok()) return changed.status();

  xla::HloComputation* entry = module.entry_computation();
  std::vector<LiftedWeight> weights;
  absl::flat_hash_map<std::string, xla::HloInstruction*> seen;
  for (xla::HloInstruction* instruction : entry->MakeInstructionPostOrder()) {
    if (instruction->opcode() != xla::HloOpcode::kConstant || !WorthLifting(*instruction, threshold))
      continue;
    const xla::Shape shape = xla::ShapeUtil::MakeShapeWithDescendingLayout(
        instruction->shape().element_type(), instruction->shape().dimensions());
    const xla::Literal literal = instruction->literal().Relayout(shape);
    LiftedWeight weight;
    weight.spec = FromXlaShape(shape);
    weight.spec.set_name(std::string(instruction->name()));
    weight.bytes.assign(static_cast<const char*>(literal.untyped_data()), xla::ShapeUtil::ByteSizeOf(shape));

    xla::HloInstruction*& parameter = seen[absl::StrCat(shape.ToString(true), ":", weight.bytes)];
    if (parameter == nullptr) {
      parameter = entry->AddEntryComputationParameter(xla::HloInstruction::CreateParameter(
          entry->num_parameters(), shape, absl::StrCat("weight.", instruction->name())));
      parameter->set_metadata(instruction->metadata());
      weights.push_back(std::move(weight));
    }
    if (absl::Status status = instruction->ReplaceAllUsesWithDifferentShape(parameter); !status.ok())
      return status;
    if (absl::Status status = entry->RemoveInstruction(instruction); !status.ok()) return status;
  }
  return weights;
}

}  // namespace tfipu
