#include "serving/api/model_info.h"

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "serving/api/error_text.h"
#include "serving/api/model_spec.h"

namespace tfipu::serving {
namespace {

// Why a model did not load may be said at length.
constexpr std::size_t kMaxStatusText = 1 << 16;

}  // namespace

tensorflow::serving::SignatureDefMap SignatureDefMapOf(const Servable& servable) {
  tensorflow::serving::SignatureDefMap map;
  for (const auto& [name, signature] : servable.signatures())
    (*map.mutable_signature_def())[name] = signature.def;
  return map;
}

absl::Status GetModelMetadata(const ServableDirectory& directory,
                              const tensorflow::serving::GetModelMetadataRequest& request,
                              tensorflow::serving::GetModelMetadataResponse* response) {
  if (!request.has_model_spec()) return absl::InvalidArgumentError("Missing ModelSpec");
  if (request.metadata_field_size() == 0) {
    return absl::InvalidArgumentError("GetModelMetadataRequest must specify at least one metadata_field");
  }
  for (const std::string& field : request.metadata_field()) {
    if (field != "signature_def") {
      return absl::InvalidArgumentError(absl::StrCat("Metadata field ", field, " is not supported"));
    }
  }
  TFIPU_ASSIGN_OR_RETURN(const std::shared_ptr<const Servable> servable,
                         directory.Find(ModelSpecFrom(request.model_spec())));
  auto& any = (*response->mutable_metadata())["signature_def"];
  const tensorflow::serving::SignatureDefMap map = SignatureDefMapOf(*servable);
  any.PackFrom(map);
  // The same model gives the same bytes: maps are written in the order of their keys.
  any.clear_value();
  google::protobuf::io::StringOutputStream stream(any.mutable_value());
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  map.SerializeToCodedStream(&coded);
  FillModelSpec(servable->id(), "", response->mutable_model_spec());
  return absl::OkStatus();
}

absl::Status GetModelStatus(const ServableDirectory& directory,
                            const tensorflow::serving::GetModelStatusRequest& request,
                            tensorflow::serving::GetModelStatusResponse* response) {
  if (!request.has_model_spec()) return absl::InvalidArgumentError("Missing ModelSpec");
  TFIPU_ASSIGN_OR_RETURN(const std::vector<ServableState> states,
                         directory.States(ModelSpecFrom(request.model_spec())));
  for (const ServableState& state : states) {
    auto* version = response->add_model_version_status();
    version->set_version(state.id.version);
    version->set_state(static_cast<tensorflow::serving::ModelVersionStatus::State>(state.stage));
    auto* status = version->mutable_status();
    status->set_error_code(static_cast<tensorflow::error::Code>(state.status.code()));
    status->set_error_message(ErrorText(state.status.message(), kMaxStatusText));
  }
  return absl::OkStatus();
}

}  // namespace tfipu::serving
