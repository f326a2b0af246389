#include "serving/core/loader.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace tfipu::serving {
namespace {

constexpr char kNotWhole[] = "tfipu/not_whole";

}  // namespace

absl::Status NotWholeError(absl::string_view missing) {
  absl::Status status = absl::UnavailableError(absl::StrCat("waits for ", missing));
  status.SetPayload(kNotWhole, absl::Cord());
  return status;
}

bool IsNotWhole(const absl::Status& status) { return status.GetPayload(kNotWhole).has_value(); }

}  // namespace tfipu::serving
