#include "serving/api/model_info.h"

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "serving/api/model_spec.h"

namespace tfipu::serving {

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
  auto servable = directory.Find(ModelSpecFrom(request.model_spec()));
  if (!servable.ok()) return servable.status();
  auto& any = (*response->mutable_metadata())["signature_def"];
  const tensorflow::serving::SignatureDefMap map = SignatureDefMapOf(**servable);
  any.PackFrom(map);
  // The same model gives the same bytes: maps are written in the order of their keys.
  any.clear_value();
  google::protobuf::io::StringOutputStream stream(any.mutable_value());
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  map.SerializeToCodedStream(&coded);
  FillModelSpec((*servable)->id(), "", response->mutable_model_spec());
  return absl::OkStatus();
}

absl::Status GetModelStatus(const ServableDirectory& directory,
                            const tensorflow::serving::GetModelStatusRequest& request,
                            tensorflow::serving::GetModelStatusResponse* response) {
  if (!request.has_model_spec()) return absl::InvalidArgumentError("Missing ModelSpec");
  auto states = directory.States(ModelSpecFrom(request.model_spec()));
  if (!states.ok()) return states.status();
  for (const ServableState& state : *states) {
    auto* version = response->add_model_version_status();
    version->set_version(state.id.version);
    version->set_state(static_cast<tensorflow::serving::ModelVersionStatus::State>(state.stage));
    auto* status = version->mutable_status();
    status->set_error_code(static_cast<tensorflow::error::Code>(state.status.code()));
    status->set_error_message(std::string(state.status.message()));
  }
  return absl::OkStatus();
}

}  // namespace tfipu::serving
