#include "cc/executable/validate.h"

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "cc/base/sha256.h"
#include "cc/base/status_macros.h"
#include "cc/executable/executable.h"
#include "cc/executable/row_variants.h"

namespace tfipu {
namespace {

using Specs = google::protobuf::RepeatedPtrField<TensorSpec>;

absl::Status Refuse(absl::string_view field, absl::string_view found, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", found, ", expected ", expected));
}

template <typename Number>
absl::Status CheckRange(absl::string_view field, Number found, Number low, Number high) {
  if (found >= low && found <= high) return absl::OkStatus();
  return Refuse(field, absl::StrCat(found), absl::StrCat("between ", low, " and ", high));
}

absl::Status CheckSpec(absl::string_view field, const TensorSpec& spec) {
  if (ElementSize(spec.type()) == 0) {
    return Refuse(absl::StrCat(field, ".type"), absl::StrCat(static_cast<int>(spec.type())),
                  "a known element type");
  }
  TFIPU_RETURN_IF_ERROR(CheckRange(absl::StrCat(field, ".dims.size"), spec.dims_size(), 0, kMaxRank));
  const absl::StatusOr<std::size_t> size = TensorSize(spec);
  if (!size.ok()) return absl::InvalidArgumentError(absl::StrCat(field, ": ", size.status().message()));
  if (*size > kMaxBytes) {
    return Refuse(absl::StrCat("size of ", field), absl::StrCat(*size, " bytes (", ToString(spec), ")"),
                  absl::StrCat("at most ", kMaxBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckSpecs(absl::string_view field, const Specs& specs, bool named) {
  std::set<absl::string_view> names;
  for (int i = 0; i < specs.size(); ++i) {
    const std::string element = absl::StrCat(field, "[", i, "]");
    TFIPU_RETURN_IF_ERROR(CheckSpec(element, specs[i]));
    if (!named) continue;
    if (specs[i].name().empty()) return Refuse(absl::StrCat(element, ".name"), "empty", "a name");
    if (!names.insert(specs[i].name()).second) {
      return Refuse(absl::StrCat(element, ".name"), absl::StrCat("'", specs[i].name(), "'"),
                    absl::StrCat("a name that no earlier one of the ", field, " has"));
    }
  }
  return absl::OkStatus();
}

bool SameTensor(const TensorSpec& a, const TensorSpec& b) {
  return a.type() == b.type() &&
         std::equal(a.dims().begin(), a.dims().end(), b.dims().begin(), b.dims().end());
}

// References of one header. `stages_before`: only results of stages below it exist yet.
class References {
 public:
  explicit References(const ExecutableHeader& header) : header_(header) {}

  absl::Status Check(const std::string& field, const ValueRef& ref, int stages_before) const {
    if (!ValueRef::Source_IsValid(ref.source())) {
      return Refuse(field + ".source", absl::StrCat(static_cast<int>(ref.source())), "a known source");
    }
    if (ref.source() == ValueRef::STAGE_RESULT) {
      if (ref.stage() >= static_cast<std::uint32_t>(stages_before)) {
        return Refuse(field + ".stage", absl::StrCat(ref.stage()),
                      absl::StrCat("less than ", stages_before, ": a stage whose results exist by then"));
      }
    } else if (ref.stage() != 0) {
      return Refuse(field + ".stage", absl::StrCat(ref.stage()), "0, because the source is no stage");
    }
    const auto [count, of] = Count(ref);
    if (ref.index() >= static_cast<std::uint32_t>(count)) {
      return Refuse(field + ".index", absl::StrCat(ref.index()),
                    absl::StrCat("less than ", count, ", the number of ", of));
    }
    return absl::OkStatus();
  }

  absl::Status CheckSame(const std::string& field, const ValueRef& ref, const TensorSpec& expected) const {
    const TensorSpec& found = Spec(ref);
    if (SameTensor(found, expected)) return absl::OkStatus();
    return Refuse(absl::StrCat("the value of ", field), ToString(found), ToString(expected));
  }

 private:
  std::pair<int, const char*> Count(const ValueRef& ref) const {
    switch (ref.source()) {
      case ValueRef::INFEED:
        return {header_.infeeds_size(), "infeeds"};
      case ValueRef::STARTUP_INPUT:
        return {header_.startup_inputs_size(), "start-up inputs"};
      case ValueRef::WEIGHT:
        return {header_.weights_size(), "weights"};
      case ValueRef::STAGE_RESULT:
        return {header_.stages(ref.stage()).results_size(), "results of that stage"};
      case ValueRef::CARRIED:
        return {header_.carried_size(), "carried values"};
      default:
        return {0, "values"};
    }
  }

  const TensorSpec& Spec(const ValueRef& ref) const {
    switch (ref.source()) {
      case ValueRef::INFEED:
        return header_.infeeds(ref.index());
      case ValueRef::STARTUP_INPUT:
        return header_.startup_inputs(ref.index());
      case ValueRef::WEIGHT:
        return header_.weights(ref.index()).spec();
      case ValueRef::STAGE_RESULT:
        return header_.stages(ref.stage()).results(ref.index());
      default:
        return header_.carried(ref.index()).spec();
    }
  }

  const ExecutableHeader& header_;
};

absl::Status CheckTarget(const Target& target) {
  switch (target.kind_case()) {
    case Target::kIpu:
      if (!IpuTarget::Type_IsValid(target.ipu().type())) {
        return Refuse("target.ipu.type", absl::StrCat(static_cast<int>(target.ipu().type())),
                      "a known target type");
      }
      break;
    case Target::kPjrt:
      if (target.pjrt().platform().empty()) return Refuse("target.pjrt.platform", "empty", "a platform");
      if (const std::size_t size = target.pjrt().plugin().sha256().size(); size != Sha256::kSize) {
        return Refuse("target.pjrt.plugin.sha256.size", absl::StrCat(size), absl::StrCat(Sha256::kSize));
      }
      break;
    case Target::KIND_NOT_SET:
      return Refuse("target", "of no kind", "a target of a known kind");
  }
  return CheckRange("target.num_ipus", target.num_ipus(), 1u, kMaxIpus);
}

absl::Status CheckStages(const ExecutableHeader& header) {
  const References references(header);
  TFIPU_RETURN_IF_ERROR(CheckRange("stages.size", header.stages_size(), 1, kMaxStages));
  for (int i = 0; i < header.stages_size(); ++i) {
    const Stage& stage = header.stages(i);
    const std::string field = absl::StrCat("stages[", i, "]");
    TFIPU_RETURN_IF_ERROR(CheckRange(field + ".ipu", stage.ipu(), 0u, header.target().num_ipus() - 1));
    for (int j = 0; j < stage.arguments_size(); ++j) {
      TFIPU_RETURN_IF_ERROR(
          references.Check(absl::StrCat(field, ".arguments[", j, "]"), stage.arguments(j), i));
    }
    TFIPU_RETURN_IF_ERROR(CheckSpecs(field + ".results", stage.results(), /*named=*/false));
    if (stage.code().size() == 0) return Refuse(field + ".code", "missing or empty", "the stage's code");
    TFIPU_RETURN_IF_ERROR(CheckRange(field + ".temp_size", stage.temp_size(), std::uint64_t{0}, kMaxBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckWeights(const ExecutableHeader& header) {
  for (int i = 0; i < header.weights_size(); ++i) {
    const Weight& weight = header.weights(i);
    const std::string field = absl::StrCat("weights[", i, "]");
    TFIPU_RETURN_IF_ERROR(CheckSpec(field + ".spec", weight.spec()));
    TFIPU_RETURN_IF_ERROR(CheckRange(field + ".ipu", weight.ipu(), 0u, header.target().num_ipus() - 1));
    if (!weight.has_blob()) return Refuse(field + ".blob", "missing", "the weight's bytes");
    if (const std::size_t size = *TensorSize(weight.spec()); weight.blob().size() != size) {
      return Refuse(field + ".blob.size", absl::StrCat(weight.blob().size()),
                    absl::StrCat(size, ", the size of ", ToString(weight.spec())));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCarried(const ExecutableHeader& header) {
  const References references(header);
  for (int i = 0; i < header.carried_size(); ++i) {
    const Carried& carried = header.carried(i);
    const std::string field = absl::StrCat("carried[", i, "]");
    TFIPU_RETURN_IF_ERROR(CheckSpec(field + ".spec", carried.spec()));
    TFIPU_RETURN_IF_ERROR(references.Check(field + ".initial", carried.initial(), header.stages_size()));
    TFIPU_RETURN_IF_ERROR(references.Check(field + ".next", carried.next(), header.stages_size()));
    if (carried.initial().source() != ValueRef::STARTUP_INPUT &&
        carried.initial().source() != ValueRef::WEIGHT) {
      return Refuse(field + ".initial.source", ValueRef::Source_Name(carried.initial().source()),
                    "STARTUP_INPUT or WEIGHT");
    }
    if (carried.next().source() != ValueRef::STAGE_RESULT) {
      return Refuse(field + ".next.source", ValueRef::Source_Name(carried.next().source()), "STAGE_RESULT");
    }
    TFIPU_RETURN_IF_ERROR(references.CheckSame(field + ".initial", carried.initial(), carried.spec()));
    TFIPU_RETURN_IF_ERROR(references.CheckSame(field + ".next", carried.next(), carried.spec()));
  }
  return absl::OkStatus();
}

absl::Status CheckOutfeeds(const ExecutableHeader& header) {
  const References references(header);
  if (header.outfeed_values_size() != header.outfeeds_size()) {
    return Refuse("outfeed_values.size", absl::StrCat(header.outfeed_values_size()),
                  absl::StrCat(header.outfeeds_size(), ", the number of outfeeds"));
  }
  for (int i = 0; i < header.outfeeds_size(); ++i) {
    const std::string field = absl::StrCat("outfeed_values[", i, "]");
    TFIPU_RETURN_IF_ERROR(references.Check(field, header.outfeed_values(i), header.stages_size()));
    TFIPU_RETURN_IF_ERROR(references.CheckSame(field, header.outfeed_values(i), header.outfeeds(i)));
  }
  return absl::OkStatus();
}

absl::Status CheckRows(const ExecutableHeader& header) {
  if (!header.dynamic_batch()) return absl::OkStatus();
  std::int64_t rows = 0;
  for (const auto& [field, specs] : {std::pair<const char*, const Specs&>("infeeds", header.infeeds()),
                                     std::pair<const char*, const Specs&>("outfeeds", header.outfeeds())}) {
    for (int i = 0; i < specs.size(); ++i) {
      const std::int64_t found = specs[i].dims().empty() ? 0 : specs[i].dims(0);
      if (rows == 0) rows = found;
      if (found == 0 || found != rows) {
        return Refuse(absl::StrCat(field, "[", i, "]"), ToString(specs[i]),
                      rows == 0
                          ? std::string("a leading dimension of at least 1, because dynamic_batch is set")
                          : absl::StrCat("a leading dimension of ", rows,
                                         " like the other feeds, because dynamic_batch is set"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Validate(const ExecutableHeader& header) {
  constexpr std::uint64_t kMaxIterations = std::uint64_t{1} << 62;
  TFIPU_RETURN_IF_ERROR(CheckTarget(header.target()));
  TFIPU_RETURN_IF_ERROR(CheckRange("iterations", header.iterations(), std::uint64_t{1}, kMaxIterations));
  if (!Schedule_IsValid(header.schedule())) {
    return Refuse("schedule", absl::StrCat(static_cast<int>(header.schedule())), "a known schedule");
  }
  TFIPU_RETURN_IF_ERROR(CheckSpecs("startup_inputs", header.startup_inputs(), /*named=*/true));
  TFIPU_RETURN_IF_ERROR(CheckSpecs("infeeds", header.infeeds(), /*named=*/true));
  TFIPU_RETURN_IF_ERROR(CheckSpecs("outfeeds", header.outfeeds(), /*named=*/true));
  TFIPU_RETURN_IF_ERROR(CheckStages(header));
  TFIPU_RETURN_IF_ERROR(CheckWeights(header));
  TFIPU_RETURN_IF_ERROR(CheckCarried(header));
  TFIPU_RETURN_IF_ERROR(CheckOutfeeds(header));
  TFIPU_RETURN_IF_ERROR(CheckRows(header));
  // A program holds at most one batch for each further stage, and two in its I/O tiles.
  TFIPU_RETURN_IF_ERROR(
      CheckRange("hold", header.hold(), 0u, static_cast<std::uint32_t>(header.stages_size()) + 1));
  TFIPU_RETURN_IF_ERROR(CheckRange("timeout_us", header.timeout_us(), std::uint64_t{0}, kMaxMicroseconds));
  TFIPU_RETURN_IF_ERROR(CheckRange("max_wait_us", header.max_wait_us(), std::uint64_t{0}, kMaxMicroseconds));
  TFIPU_RETURN_IF_ERROR(CheckRange("replicas", header.replicas(), 0u, kMaxReplicas));
  return ValidateRowVariants(header);
}

}  // namespace tfipu
