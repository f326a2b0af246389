#include "cc/compiler/compiler.h"

#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/compiler/ipu_compiler.h"
#include "cc/compiler/pjrt_compiler.h"
#include "cc/compiler/stage_compiler.h"
#include "cc/executable/executable.h"
#include "cc/executable/tensorflow_build.h"
#include "cc/executable/writer.h"

namespace tfipu {
namespace {

std::unique_ptr<TargetCompiler> CompilerFor(const Target& target, const CompileOptions& options) {
  if (target.has_pjrt()) return MakePjrtCompiler(options.pjrt);
  return MakeIpuCompiler();
}

class ExecutableBuilder {
 public:
  ExecutableBuilder(ExecutableHeader header, const CompileOptions& options)
      : header_(std::move(header)), options_(options), target_(CompilerFor(header_.target(), options)) {}

  absl::Status Build(const std::vector<std::string>& stage_hlo, const std::string& path) {
    if (stage_hlo.empty() || stage_hlo.size() != header_.stages_size()) {
      return absl::InvalidArgumentError(absl::StrCat("Found HLO for ", stage_hlo.size(), " stages, expected ",
                                                     header_.stages_size(), " and at least one"));
    }
    *header_.mutable_build() = TensorFlowBuild();
    TFIPU_RETURN_IF_ERROR(target_->Begin(header_));
    header_.clear_weights();

    const ExecutableHeader given = header_;
    TFIPU_RETURN_IF_ERROR(AddStages(header_, stage_hlo, /*whole=*/true));
    for (const CompileOptions::RowVariantHlo& variant : options_.row_variants) {
      TFIPU_RETURN_IF_ERROR(AddVariant(given, variant));
    }
    TFIPU_RETURN_IF_ERROR(AddInitialValues());
    TFIPU_RETURN_IF_ERROR(DescribeOutfeeds());
    TFIPU_RETURN_IF_ERROR(target_->End(header_, memory_of_ipu_));
    Progress(absl::StrCat("writing ", path), Share(compiled_));
    TFIPU_RETURN_IF_ERROR(writer_.Write(std::move(header_), path));
    Progress(absl::StrCat("wrote ", path), 1);
    return absl::OkStatus();
  }

 private:
  void Progress(const std::string& what, double done) const {
    if (options_.progress) options_.progress(what, done);
  }

  // Of the work that is done when so many stages have been compiled.
  double Share(int stages) const {
    const double all = static_cast<double>(header_.stages_size() * (options_.row_variants.size() + 1));
    return stages / (all + 1);
  }

  // Compiles the stages of `program`, which is the header, or that of a variant. The emulated IPU's memory is
  // taken by the whole program only: hardware would hold nothing else.
  absl::Status AddStages(ExecutableHeader& program, const std::vector<std::string>& stage_hlo, bool whole) {
    for (int s = 0; s < program.stages_size(); ++s) {
      const std::string& name = program.stages(s).name();
      Progress(absl::StrCat("compiling stage ", s, " '", name, "'"), Share(compiled_++));
      if (absl::Status status = AddStage(program, s, stage_hlo[s], whole); !status.ok()) {
        return absl::Status(status.code(), absl::StrCat("Stage ", s, " '", name, "': ", status.message()));
      }
    }
    return absl::OkStatus();
  }

  absl::Status AddVariant(const ExecutableHeader& given, const CompileOptions::RowVariantHlo& hlo) {
    RowVariant variant;
    variant.set_rows(hlo.rows);
    *variant.mutable_stages() = given.stages();
    if (hlo.stage_hlo.size() != given.stages_size()) {
      return absl::InvalidArgumentError(absl::StrCat("Found HLO for ", hlo.stage_hlo.size(),
                                                     " stages of the variant for ", hlo.rows,
                                                     " rows, expected ", given.stages_size()));
    }
    for (const auto& feed : given.infeeds()) {
      if (!feed.dims().empty()) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("There is a variant for ", hlo.rows, " rows, but ", ToString(feed), " has none"));
    }
    ExecutableHeader program = given;
    for (TensorSpec& feed : *program.mutable_infeeds()) feed.set_dims(0, hlo.rows);
    if (absl::Status status = AddStages(program, hlo.stage_hlo, /*whole=*/false); !status.ok()) {
      return absl::Status(status.code(), absl::StrCat("Variant for ", hlo.rows, " rows: ", status.message()));
    }
    *variant.mutable_stages() = program.stages();
    *header_.add_row_variants() = std::move(variant);
    return absl::OkStatus();
  }

  // What a value of the program is, which must be known by the time stage `reader` reads it.
  static absl::StatusOr<TensorSpec> SpecOf(const ExecutableHeader& program, const ValueRef& value,
                                           int reader) {
    const std::uint32_t i = value.index();
    switch (value.source()) {
      case ValueRef::INFEED:
        if (i < program.infeeds_size()) return program.infeeds(i);
        break;
      case ValueRef::STARTUP_INPUT:
        if (i < program.startup_inputs_size()) return program.startup_inputs(i);
        break;
      case ValueRef::CARRIED:
        if (i < program.carried_size()) return program.carried(i).spec();
        break;
      case ValueRef::STAGE_RESULT:
        if (value.stage() < reader && i < program.stages(value.stage()).results_size()) {
          return program.stages(value.stage()).results(i);
        }
        break;
      default:
        break;
    }
    return absl::InvalidArgumentError(absl::StrCat("There is no ", ValueRef::Source_Name(value.source()), " ",
                                                   i, " of stage ", value.stage(), " to read in stage ",
                                                   reader));
  }

  static absl::Status CheckArguments(const ExecutableHeader& program, int s,
                                     const StageSignature& signature) {
    const Stage& stage = program.stages(s);
    if (stage.arguments_size() != signature.parameters.size()) {
      return absl::InvalidArgumentError(absl::StrCat("Found ", stage.arguments_size(),
                                                     " arguments, expected ", signature.parameters.size(),
                                                     ", as the HLO has parameters"));
    }
    for (int i = 0; i < stage.arguments_size(); ++i) {
      TFIPU_ASSIGN_OR_RETURN(const TensorSpec found, SpecOf(program, stage.arguments(i), s));
      const TensorSpec& expected = signature.parameters[i];
      if (ToString(found) != ToString(expected)) {
        return absl::InvalidArgumentError(
            absl::StrCat("Found ", ToString(found), " (", ValueRef::Source_Name(stage.arguments(i).source()),
                         " ", stage.arguments(i).index(), ") for argument ", i, ", expected ",
                         ToString(expected), ", as the HLO's parameter"));
      }
    }
    return absl::OkStatus();
  }

  // A carried value's memory may become that of the next one, when nothing else reads either: a later step
  // would write over it while it is copied elsewhere.
  static std::vector<Donation> DonationsOf(const ExecutableHeader& program, int s) {
    std::vector<Donation> donations;
    for (int c = 0; c < program.carried_size(); ++c) {
      const ValueRef& next = program.carried(c).next();
      int readers = 0;
      int parameter = -1;
      const auto reads = [&](const ValueRef& ref) {
        return (ref.source() == ValueRef::CARRIED && ref.index() == c) ||
               (ref.source() == ValueRef::STAGE_RESULT && ref.stage() == next.stage() &&
                ref.index() == next.index());
      };
      for (int t = 0; t < program.stages_size(); ++t) {
        for (int i = 0; i < program.stages(t).arguments_size(); ++i) {
          if (!reads(program.stages(t).arguments(i))) continue;
          ++readers;
          if (t == s && program.stages(t).arguments(i).source() == ValueRef::CARRIED) parameter = i;
        }
      }
      for (const ValueRef& value : program.outfeed_values()) readers += reads(value);
      for (int other = 0; other < program.carried_size(); ++other) {
        readers += other != c && reads(program.carried(other).next());
      }
      if (readers == 1 && parameter >= 0 && static_cast<int>(next.stage()) == s) {
        donations.emplace_back(parameter, next.index());
      }
    }
    return donations;
  }

  absl::Status AddStage(ExecutableHeader& program, int s, const std::string& hlo, bool whole) {
    TFIPU_ASSIGN_OR_RETURN(StageCode compiled,
                           CompileStage(hlo, DonationsOf(program, s), options_.weight_threshold, *target_));
    TFIPU_RETURN_IF_ERROR(CheckArguments(program, s, compiled.signature));
    Stage& stage = *program.mutable_stages(s);
    std::uint64_t memory = compiled.generated.code_size + compiled.generated.temp_size;
    for (const TensorSpec& parameter : compiled.signature.parameters) {
      TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(parameter));
      memory += size;
    }
    stage.clear_results();
    for (const TensorSpec& result : compiled.signature.results) {
      TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(result));
      memory += size;
      *stage.add_results() = result;
    }
    if (whole) memory_of_ipu_[stage.ipu()] += memory;
    for (LiftedWeight& weight : compiled.weights) {
      memory += weight.bytes.size();
      AddWeight(stage, std::move(weight), whole);
    }
    *stage.mutable_code() = writer_.AddBlob(std::move(compiled.generated.code));
    if (whole) *stage.mutable_hlo() = writer_.AddBlob(std::move(compiled.hlo));
    stage.set_temp_size(compiled.generated.temp_size);
    stage.set_may_not_end(compiled.may_not_end);
    stage.set_memory_used(memory);
    return absl::OkStatus();
  }

  // A weight that another stage has as well is stored once, but takes memory on each IPU.
  void AddWeight(Stage& stage, LiftedWeight weight, bool whole) {
    ValueRef& argument = *stage.add_arguments();
    argument.set_source(ValueRef::WEIGHT);
    const auto [found, added] = weight_of_bytes_.try_emplace(
        absl::StrCat(ToString(weight.spec), ":", weight.bytes), header_.weights_size());
    argument.set_index(found->second);
    if (whole && weights_on_ipu_[stage.ipu()].insert(found->second).second) {
      memory_of_ipu_[stage.ipu()] += weight.bytes.size();
    }
    if (!added) return;
    Weight& entry = *header_.add_weights();
    *entry.mutable_spec() = std::move(weight.spec);
    *entry.mutable_blob() = writer_.AddBlob(std::move(weight.bytes));
    entry.set_ipu(stage.ipu());
  }

  // What carried values start as, as far as it is constant, becomes weights of the first stage's IPU.
  absl::Status AddInitialValues() {
    for (int i = 0; i < header_.carried_size(); ++i) {
      Carried& carried = *header_.mutable_carried(i);
      if (carried.initial().source() != ValueRef::WEIGHT) continue;
      const std::uint32_t given = carried.initial().index();
      if (given >= options_.initial_values.size()) {
        return absl::InvalidArgumentError(absl::StrCat("Carried value ", i, " starts as initial value ",
                                                       given, ", but there are ",
                                                       options_.initial_values.size()));
      }
      TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(carried.spec()));
      const std::string& bytes = options_.initial_values[given];
      if (bytes.size() != size) {
        return absl::InvalidArgumentError(absl::StrCat("Found ", bytes.size(),
                                                       " bytes for the initial value of ", "carried value ",
                                                       i, ", expected ", size));
      }
      carried.mutable_initial()->set_index(header_.weights_size());
      Weight& entry = *header_.add_weights();
      *entry.mutable_spec() = carried.spec();
      *entry.mutable_blob() = writer_.AddBlob(bytes);
      entry.set_ipu(header_.stages(0).ipu());
    }
    return absl::OkStatus();
  }

  absl::Status DescribeOutfeeds() {
    if (header_.outfeeds_size() != header_.outfeed_values_size()) {
      return absl::InvalidArgumentError(absl::StrCat("Found ", header_.outfeeds_size(), " outfeeds and ",
                                                     header_.outfeed_values_size(),
                                                     " values for them, expected as many of each"));
    }
    for (int i = 0; i < header_.outfeeds_size(); ++i) {
      TFIPU_ASSIGN_OR_RETURN(TensorSpec spec,
                             SpecOf(header_, header_.outfeed_values(i), header_.stages_size()));
      spec.set_name(header_.outfeeds(i).name());
      *header_.mutable_outfeeds(i) = std::move(spec);
    }
    return absl::OkStatus();
  }

  ExecutableHeader header_;
  const CompileOptions& options_;
  const std::unique_ptr<TargetCompiler> target_;
  int compiled_ = 0;  // stages, for the progress
  ExecutableWriter writer_;
  absl::flat_hash_map<std::string, std::uint32_t> weight_of_bytes_;
  std::map<std::uint32_t, std::set<std::uint32_t>> weights_on_ipu_;
  std::map<std::uint32_t, std::uint64_t> memory_of_ipu_;
};

}  // namespace

absl::Status Compile(ExecutableHeader header, const std::vector<std::string>& stage_hlo,
                     const std::string& path, const CompileOptions& options) {
  return ExecutableBuilder(std::move(header), options).Build(stage_hlo, path);
}

}  // namespace tfipu
