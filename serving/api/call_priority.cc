#include "serving/api/call_priority.h"

#include "absl/strings/str_cat.h"

namespace tfipu::serving {

absl::Status SetPriority(absl::string_view value, CallContext* context) {
  context->high_priority = value == "high";
  if (context->high_priority || value == "normal" || value.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(kPriorityField, ": found \"", value, "\", expected \"high\" or \"normal\""));
}

}  // namespace tfipu::serving
