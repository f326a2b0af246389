#include "serving/api/model_spec.h"

#include "absl/strings/str_cat.h"

namespace tfipu::serving {

ModelSpec ModelSpecFrom(const tensorflow::serving::ModelSpec& proto) {
  ModelSpec spec;
  spec.name = proto.name();
  if (proto.has_version()) spec.version = proto.version().value();
  spec.label = proto.version_label();
  return spec;
}

std::string ModelSpecText(const tensorflow::serving::ModelSpec& proto) {
  std::string text = absl::StrCat("model \"", proto.name(), "\"");
  if (proto.has_version()) absl::StrAppend(&text, ", version ", proto.version().value());
  if (!proto.version_label().empty()) absl::StrAppend(&text, ", label \"", proto.version_label(), "\"");
  return text;
}

void FillModelSpec(const ServableId& id, absl::string_view signature_name,
                   tensorflow::serving::ModelSpec* proto) {
  proto->Clear();
  proto->set_name(id.name);
  proto->mutable_version()->set_value(id.version);
  proto->set_signature_name(std::string(signature_name));
}

}  // namespace tfipu::serving
