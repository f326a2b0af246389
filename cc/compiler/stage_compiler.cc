#include "cc/compiler/stage_compiler.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "cc/compiler/deterministic_bytes.h"
#include "cc/compiler/element_type.h"
#include "cc/compiler/weight_lifting.h"
#include "xla/debug_options_flags.h"
#include "xla/hlo/ir/hlo_computation.h"
#include "xla/hlo/ir/hlo_instruction.h"
#include "xla/hlo/ir/hlo_module.h"
#include "xla/layout_util.h"
#include "xla/service/hlo_module_util.h"
#include "xla/shape_util.h"

namespace tfipu {
namespace {

// Where the user's program asked for the instruction, as far as XLA was told.
std::string Location(const xla::HloInstruction& instruction) {
  const xla::OpMetadata& metadata = instruction.metadata();
  std::string where;
  if (!metadata.op_name().empty()) absl::StrAppend(&where, " of '", metadata.op_name(), "'");
  std::string file = metadata.source_file();
  int line = metadata.source_line();
  if (file.empty() && metadata.stack_frame_id() != 0) {
    const xla::HloModule::StackFrame frame =
        instruction.GetModule()->get_stack_frame(metadata.stack_frame_id());
    file = frame.file_name;
    line = frame.line;
  }
  if (!file.empty()) absl::StrAppend(&where, " at ", file, ":", line);
  return where;
}

std::string Describe(const xla::HloInstruction& instruction) {
  return absl::StrCat("operation ", xla::HloOpcodeString(instruction.opcode()), Location(instruction));
}

absl::Status CheckOperations(const xla::HloModule& module) {
  for (const xla::HloComputation* computation : module.computations()) {
    for (const xla::HloInstruction* instruction : computation->instructions()) {
      switch (instruction->opcode()) {
        case xla::HloOpcode::kInfeed:
        case xla::HloOpcode::kOutfeed:
        case xla::HloOpcode::kSend:
        case xla::HloOpcode::kRecv:
        case xla::HloOpcode::kAllReduce:
        case xla::HloOpcode::kAllGather:
        case xla::HloOpcode::kAllToAll:
        case xla::HloOpcode::kCollectivePermute:
        case xla::HloOpcode::kReduceScatter:
          return absl::InvalidArgumentError(
              absl::StrCat("The ", Describe(*instruction),
                           " cannot be compiled for an IPU: an exported program "
                           "exchanges data through its feeds only"));
        default:
          break;
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStatic(const xla::Shape& shape, absl::string_view what,
                         const xla::HloInstruction& instruction) {
  if (!shape.IsArray()) {
    return absl::InvalidArgumentError(absl::StrCat("The ", what, " is ", shape.ToString(),
                                                   ", expected a tensor (", Describe(instruction), ")"));
  }
  for (int i = 0; i < shape.dimensions().size(); ++i) {
    if (shape.is_dynamic_dimension(i)) {
      return absl::InvalidArgumentError(
          absl::StrCat("The ", what, " has a dynamic shape: dimension ", i, " of ", shape.ToString(),
                       " depends on the data, but an executable has static shapes (", Describe(instruction),
                       "). Give the result a fixed size, or move the operation into postprocessing."));
    }
  }
  if (FromXlaType(shape.element_type()) == INVALID) {
    return absl::InvalidArgumentError(
        absl::StrCat("The ", what, " has type ", xla::PrimitiveType_Name(shape.element_type()),
                     ", which an executable's feeds cannot have (", Describe(instruction), ")"));
  }
  return absl::OkStatus();
}

// The arrays inside a value that may be a tuple, in order.
void Flatten(xla::HloInstruction* value, std::vector<xla::HloInstruction*>& leaves) {
  if (!value->shape().IsTuple()) {
    leaves.push_back(value);
    return;
  }
  for (std::int64_t i = 0; i < value->shape().tuple_shapes().size(); ++i) {
    if (value->opcode() == xla::HloOpcode::kTuple) {
      Flatten(value->mutable_operand(i), leaves);
    } else {
      Flatten(value->parent()->AddInstruction(xla::HloInstruction::CreateGetTupleElement(value, i)), leaves);
    }
  }
}

// Makes the root a flat tuple and gives all parameters and results their default layout.
absl::StatusOr<StageSignature> Normalise(xla::HloModule& module) {
  xla::HloComputation* entry = module.entry_computation();
  StageSignature signature;
  for (const xla::HloInstruction* parameter : entry->parameter_instructions()) {
    const std::string what =
        absl::StrCat("parameter ", parameter->parameter_number(), " ('", parameter->name(), "')");
    if (auto status = CheckStatic(parameter->shape(), what, *parameter); !status.ok()) return status;
    signature.parameters.push_back(FromXlaShape(parameter->shape()));
  }
  std::vector<xla::HloInstruction*> leaves;
  Flatten(entry->root_instruction(), leaves);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (auto status = CheckStatic(leaves[i]->shape(), absl::StrCat("result ", i), *leaves[i]); !status.ok()) {
      return status;
    }
    signature.results.push_back(FromXlaShape(leaves[i]->shape()));
  }
  entry->set_root_instruction(entry->AddInstruction(xla::HloInstruction::CreateTuple(leaves)),
                              /*accept_different_shape=*/true);
  // No result may overwrite an argument.
  module.set_input_output_alias_config(xla::HloInputOutputAliasConfig(entry->root_instruction()->shape()));
  return signature;
}

void SetDefaultLayouts(xla::HloModule& module) {
  *module.mutable_entry_computation_layout() =
      xla::ComputationLayout(module.entry_computation()->ComputeProgramShape(), /*ignore_layouts=*/true);
  module.mutable_entry_computation_layout()->SetToDefaultLayout();
}

// Leaves the names of the user's operations.
void DropSourceLines(xla::HloModule& module) {
  module.set_stack_frame_index(xla::StackFrameIndexProto());
  for (xla::HloComputation* computation : module.computations()) {
    for (xla::HloInstruction* instruction : computation->instructions()) {
      xla::OpMetadata metadata;
      metadata.set_op_name(instruction->metadata().op_name());
      instruction->set_metadata(metadata);
    }
  }
}

absl::StatusOr<std::unique_ptr<xla::HloModule>> Parse(absl::string_view hlo) {
  xla::HloModuleProto proto;
  if (!proto.ParseFromArray(hlo.data(), hlo.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("Found ", hlo.size(), " bytes that are no xla.HloModuleProto"));
  }
  auto config = xla::HloModule::CreateModuleConfigFromProto(proto, xla::GetDebugOptionsFromFlags());
  if (!config.ok()) return config.status();
  return xla::CreateModuleFromProto(proto, *config);
}

// Whether a message names an instruction, as a word of its own.
bool Mentions(absl::string_view message, absl::string_view name) {
  const auto in_word = [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.'; };
  for (std::size_t at = message.find(name); at != absl::string_view::npos; at = message.find(name, at + 1)) {
    const std::size_t end = at + name.size();
    if ((at == 0 || !in_word(message[at - 1])) && (end == message.size() || !in_word(message[end])))
      return true;
  }
  return false;
}

// XLA names instructions in its messages: say where they come from.
absl::Status Explain(const absl::Status& status, const xla::HloModule& module) {
  std::string message(status.message());
  for (const xla::HloComputation* computation : module.computations()) {
    for (const xla::HloInstruction* instruction : computation->instructions()) {
      const std::string where = Location(*instruction);
      const bool mentioned = Mentions(status.message(), instruction->name()) ||
                             (instruction->opcode() == xla::HloOpcode::kCustomCall &&
                              Mentions(status.message(), instruction->custom_call_target()));
      if (!where.empty() && mentioned) {
        absl::StrAppend(&message, "; ", instruction->name(), " is the ", Describe(*instruction));
        return absl::InvalidArgumentError(absl::StrCat("XLA cannot compile the program: ", message));
      }
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("XLA cannot compile the program: ", message));
}

bool HasLoop(const xla::HloModule& module) {
  for (const xla::HloComputation* computation : module.computations()) {
    for (const xla::HloInstruction* instruction : computation->instructions()) {
      if (instruction->opcode() == xla::HloOpcode::kWhile) return true;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<StageCode> CompileStage(absl::string_view hlo, const std::vector<Donation>& donations,
                                       std::uint64_t weight_threshold, TargetCompiler& target) {
  auto module = Parse(hlo);
  if (!module.ok()) return module.status();
  if (auto status = CheckOperations(**module); !status.ok()) return status;

  (*module)->set_name("stage");

  StageCode stage;
  auto signature = Normalise(**module);
  if (!signature.ok()) return signature.status();
  stage.signature = *std::move(signature);
  if (auto status = target.Rewrite(**module); !status.ok()) return status;
  auto weights = LiftWeights(**module, weight_threshold);
  if (!weights.ok()) return weights.status();
  stage.weights = *std::move(weights);
  stage.may_not_end = HasLoop(**module);
  SetDefaultLayouts(**module);
  // Errors are explained with source lines. They do not go into the file, where the paths of the exporting
  // machine have no business, and loading would have to read them.
  std::unique_ptr<xla::HloModule> original = (*module)->Clone();
  DropSourceLines(**module);
  xla::HloModuleProto portable = (*module)->ToProto();
  portable.clear_id();
  stage.hlo = SerializeDeterministically(portable);

  auto code = target.Generate(*std::move(module), donations);
  if (!code.ok()) {
    // Perhaps XLA must know a constant's value where it is used: then all stay in the code.
    if (!stage.weights.empty()) return CompileStage(hlo, donations, ~std::uint64_t{0}, target);
    return Explain(code.status(), *original);
  }
  stage.generated = *std::move(code);
  return stage;
}

}  // namespace tfipu
