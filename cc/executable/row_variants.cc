#include "cc/executable/row_variants.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/executable/validate.h"

namespace tfipu {
namespace {

absl::Status Refuse(const std::string& field, std::int64_t found, const std::string& expected) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", found, ", expected ", expected));
}

// Arguments in front of the weights.
int ValuesOf(const Stage& stage) {
  int count = stage.arguments_size();
  while (count > 0 && stage.arguments(count - 1).source() == ValueRef::WEIGHT) --count;
  return count;
}

absl::Status CheckStage(const std::string& field, const Stage& full, const Stage& stage) {
  if (stage.ipu() != full.ipu()) return Refuse(field + ".ipu", stage.ipu(), absl::StrCat(full.ipu()));
  if (ValuesOf(stage) != ValuesOf(full)) {
    return Refuse(absl::StrCat("the number of values that ", field, " reads"), ValuesOf(stage),
                  absl::StrCat(ValuesOf(full), ", as for the whole batch"));
  }
  for (int i = 0; i < ValuesOf(full); ++i) {
    const ValueRef& a = stage.arguments(i);
    const ValueRef& b = full.arguments(i);
    if (a.source() == b.source() && a.index() == b.index() && a.stage() == b.stage()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".arguments[", i, "] reads another value than the stage for the whole batch"));
  }
  if (stage.results_size() != full.results_size()) {
    return Refuse(field + ".results.size", stage.results_size(), absl::StrCat(full.results_size()));
  }
  for (int i = 0; i < full.results_size(); ++i) {
    if (stage.results(i).type() == full.results(i).type()) continue;
    return Refuse(absl::StrCat(field, ".results[", i, "].type"), stage.results(i).type(),
                  absl::StrCat(full.results(i).type(), ", as for the whole batch"));
  }
  return absl::OkStatus();
}

}  // namespace

ExecutableHeader HeaderOfVariant(const ExecutableHeader& header, const RowVariant& variant) {
  ExecutableHeader own = header;
  own.clear_row_variants();
  *own.mutable_stages() = variant.stages();
  for (TensorSpec& feed : *own.mutable_infeeds()) feed.set_dims(0, variant.rows());
  for (TensorSpec& feed : *own.mutable_outfeeds()) feed.set_dims(0, variant.rows());
  return own;
}

absl::Status ValidateRowVariants(const ExecutableHeader& header) {
  if (header.row_variants().empty()) return absl::OkStatus();
  if (!header.dynamic_batch() || !header.carried().empty() || header.outfeeds().empty()) {
    return absl::InvalidArgumentError(
        "row_variants are set, expected none: they are for programs with dynamic_batch and outfeeds that "
        "carry "
        "no values");
  }
  std::int64_t least = 1;
  const std::int64_t most = header.outfeeds(0).dims(0) - 1;
  for (int v = 0; v < header.row_variants_size(); ++v) {
    const RowVariant& variant = header.row_variants(v);
    const std::string field = absl::StrCat("row_variants[", v, "]");
    if (variant.rows() < least || variant.rows() > most) {
      return Refuse(field + ".rows", variant.rows(), absl::StrCat("between ", least, " and ", most));
    }
    least = std::int64_t{variant.rows()} + 1;
    if (variant.stages_size() != header.stages_size()) {
      return Refuse(field + ".stages.size", variant.stages_size(), absl::StrCat(header.stages_size()));
    }
    for (int s = 0; s < header.stages_size(); ++s) {
      TFIPU_RETURN_IF_ERROR(
          CheckStage(absl::StrCat(field, ".stages[", s, "]"), header.stages(s), variant.stages(s)));
    }
    if (absl::Status status = Validate(HeaderOfVariant(header, variant)); !status.ok()) {
      return absl::Status(status.code(), absl::StrCat(field, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace tfipu
