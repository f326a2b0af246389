#include "serving/api/model_spec.h"

namespace tfipu::serving {

ModelSpec ModelSpecFrom(const tensorflow::serving::ModelSpec& proto) {
  ModelSpec spec;
  spec.name = proto.name();
  if (proto.has_version()) spec.version = proto.version().value();
  spec.label = proto.version_label();
  return spec;
}

void FillModelSpec(const ServableId& id, absl::string_view signature_name,
                   tensorflow::serving::ModelSpec* proto) {
  proto->Clear();
  proto->set_name(id.name);
  proto->mutable_version()->set_value(id.version);
  proto->set_signature_name(std::string(signature_name));
}

}  // namespace tfipu::serving
