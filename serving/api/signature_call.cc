#include "serving/api/signature_call.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/base/status_macros.h"

namespace tfipu::serving {
namespace {

constexpr absl::string_view kDefaultSignature = "serving_default";

}  // namespace

absl::StatusOr<const Signature*> FindSignature(const Servable& servable, absl::string_view name) {
  if (name.empty()) name = kDefaultSignature;
  auto found = servable.signatures().find(name);
  if (found == servable.signatures().end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Serving signature name: \"", name, "\" not found in signature def; ", servable.id().DebugString(),
        " has {",
        absl::StrJoin(servable.signatures(), ",",
                      [](std::string* out, const auto& signature) { absl::StrAppend(out, signature.first); }),
        "}"));
  }
  return &found->second;
}

absl::StatusOr<const Signature*> FindPredictSignature(const Servable& servable, absl::string_view name,
                                                      bool check_method_name) {
  absl::StatusOr<const Signature*> signature = FindSignature(servable, name);
  if (!signature.ok()) return absl::FailedPreconditionError(signature.status().message());
  const std::string& method = (*signature)->method_name;
  if (check_method_name && method != "tensorflow/serving/predict" &&
      method != "tensorflow/serving/classify" && method != "tensorflow/serving/regress") {
    return absl::InternalError(
        absl::StrCat("Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
                     "tensorflow/serving/classify, tensorflow/serving/regress}. Was: ",
                     method));
  }
  TFIPU_RETURN_IF_ERROR((*signature)->runnable);
  return signature;
}

}  // namespace tfipu::serving
