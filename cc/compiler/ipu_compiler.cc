#include "cc/compiler/ipu_compiler.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cc/base/status_macros.h"
#include "cc/compiler/cpu_levels.h"
#include "cc/compiler/depthwise_convolution.h"
#include "cc/compiler/deterministic_bytes.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "xla/service/compiler.h"
#include "xla/service/cpu/cpu_aot_compilation_result.h"
#include "xla/service/platform_util.h"

namespace tfipu {
namespace {

constexpr char kTriple[] = "x86_64-unknown-linux-gnu";

std::string Bytes(std::uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " bytes");
  if (bytes < 1024 * 1024) return absl::StrFormat("%.1f KiB (%d bytes)", bytes / 1024.0, bytes);
  return absl::StrFormat("%.1f MiB (%d bytes)", bytes / 1048576.0, bytes);
}

// Makes thunks the same for the same HLO: lists that come out of hash sets are sorted, and the number of the
// module among those this process has seen is dropped.
void Canonicalise(google::protobuf::Message& message) {
  using Field = google::protobuf::FieldDescriptor;
  const google::protobuf::Reflection* reflection = message.GetReflection();
  std::vector<const Field*> fields;
  reflection->ListFields(message, &fields);
  for (const Field* field : fields) {
    if (field->name() == "module_id") {
      reflection->ClearField(&message, field);
    } else if (field->name() == "invariant_arguments" && field->is_repeated() &&
               field->cpp_type() == Field::CPPTYPE_INT64) {
      auto stored = reflection->GetMutableRepeatedFieldRef<std::int64_t>(&message, field);
      std::vector<std::int64_t> sorted;
      for (int i = 0; i < stored.size(); ++i) sorted.push_back(stored.Get(i));
      std::sort(sorted.begin(), sorted.end());
      for (std::size_t i = 0; i < sorted.size(); ++i) stored.Set(i, sorted[i]);
    } else if (field->cpp_type() == Field::CPPTYPE_MESSAGE && !field->is_map()) {
      const int size = field->is_repeated() ? reflection->FieldSize(message, field) : 0;
      for (int i = 0; i < size; ++i) Canonicalise(*reflection->MutableRepeatedMessage(&message, field, i));
      if (!field->is_repeated()) Canonicalise(*reflection->MutableMessage(&message, field));
    }
  }
}

absl::StatusOr<std::unique_ptr<xla::cpu::CpuAotCompilationResult>> CompileForCpu(
    std::unique_ptr<xla::HloModule> module, absl::string_view cpu) {
  auto platform = xla::PlatformUtil::GetPlatform("Host");
  if (!platform.ok()) return platform.status();
  auto compiler = xla::Compiler::GetForPlatform((*platform)->id());
  if (!compiler.ok()) return compiler.status();
  xla::cpu::CpuAotCompilationOptions options(kTriple, std::string(cpu), /*features=*/"", "step",
                                             xla::cpu::CpuAotCompilationOptions::RelocationModel::BigPic);
  *options.mutable_debug_options() = module->config().debug_options();
  auto results = (*compiler)->CompileAheadOfTime(std::move(module), options);
  if (!results.ok()) return results.status();
  if (results->size() != 1) {
    return absl::InternalError(absl::StrCat("XLA gave ", results->size(), " compiled modules, expected 1"));
  }
  // The compiler of platform "Host" makes no other kind.
  return std::unique_ptr<xla::cpu::CpuAotCompilationResult>(
      static_cast<xla::cpu::CpuAotCompilationResult*>((*results)[0].release()));
}

class IpuCompiler : public TargetCompiler {
 public:
  absl::Status Begin(ExecutableHeader& header) override {
    IpuTarget& target = *header.mutable_target()->mutable_ipu();
    if (target.cpu().empty()) target.set_cpu(kDefaultCpu);
    TFIPU_ASSIGN_OR_RETURN(const std::vector<std::string> features, CpuFeatures(target.cpu()));
    target.clear_cpu_features();
    for (const std::string& feature : features) target.add_cpu_features(feature);
    cpu_ = target.cpu();
    return absl::OkStatus();
  }

  absl::Status Rewrite(xla::HloModule& module) override {
    return DepthwiseConvolutionRewriter().Run(&module).status();
  }

  absl::StatusOr<GeneratedCode> Generate(std::unique_ptr<xla::HloModule> module,
                                         const std::vector<Donation>&) override {
    auto result = CompileForCpu(std::move(module), cpu_);
    if (!result.ok()) return result.status();
    GeneratedCode code;
    for (absl::string_view object : (*result)->obj_files()) code.code_size += object.size();
    for (const xla::cpu::BufferAllocationInfo& buffer : (*result)->buffer_allocation_infos()) {
      if (buffer.is_constant()) code.code_size += buffer.size();
      if (buffer.is_temp()) code.temp_size += buffer.size();
    }
    xla::cpu::CompilationResultProto proto = (*result)->proto();
    Canonicalise(*proto.mutable_thunk_sequence());
    xla::HloModuleProto& optimised = *proto.mutable_hlo_module()->mutable_hlo_module();
    optimised.clear_id();
    for (xla::HloComputationProto& computation : *optimised.mutable_computations()) {
      for (xla::HloInstructionProto& instruction : *computation.mutable_instructions())
        instruction.clear_metadata();
    }
    code.code = SerializeDeterministically(proto);
    return code;
  }

  absl::Status End(ExecutableHeader& header,
                   const std::map<std::uint32_t, std::uint64_t>& memory_of_device) override {
    const IpuTarget& target = header.target().ipu();
    const std::uint64_t available = target.tiles_per_ipu() * target.memory_per_tile();
    if (available == 0) return absl::OkStatus();
    for (const auto& [ipu, needed] : memory_of_device) {
      if (needed <= available) continue;
      std::vector<std::string> stages;
      for (int s = 0; s < header.stages_size(); ++s) {
        const Stage& stage = header.stages(s);
        if (stage.ipu() == ipu)
          stages.push_back(absl::StrCat("'", stage.name(), "': ", Bytes(stage.memory_used())));
      }
      return absl::ResourceExhaustedError(
          absl::StrCat("The program needs ", Bytes(needed), " on IPU ", ipu, ", which has ", Bytes(available),
                       " (", target.tiles_per_ipu(), " tiles of ", Bytes(target.memory_per_tile()),
                       "). Its stages need ", absl::StrJoin(stages, ", "),
                       ". Use a smaller batch, or split the model into more pipeline stages on "
                       "further IPUs."));
    }
    return absl::OkStatus();
  }

 private:
  std::string cpu_;
};

}  // namespace

std::unique_ptr<TargetCompiler> MakeIpuCompiler() { return std::make_unique<IpuCompiler>(); }

}  // namespace tfipu
