#include "serving/rest/model_json.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/util/json_util.h"
#include "serving/api/error_text.h"
#include "serving/json/writer.h"

namespace tfipu::serving {
namespace {

// Why a model did not load may be said at length.
constexpr std::size_t kMaxStatusText = 1 << 16;

const char* StageName(ServableStage stage) {
  switch (stage) {
    case ServableStage::kStart:
      return "START";
    case ServableStage::kLoading:
      return "LOADING";
    case ServableStage::kAvailable:
      return "AVAILABLE";
    case ServableStage::kUnloading:
      return "UNLOADING";
    case ServableStage::kEnd:
      return "END";
  }
  return "UNKNOWN";
}

}  // namespace

std::string ModelStatusJson(const std::vector<ServableState>& states) {
  std::string json;
  json::Writer writer(&json);
  writer.Raw("{\n \"model_version_status\": [");
  for (std::size_t i = 0; i < states.size(); ++i) {
    const ServableState& state = states[i];
    writer.Raw(i == 0 ? "\n  {\n   \"version\": \"" : ",\n  {\n   \"version\": \"");
    writer.Integer(state.id.version);
    writer.Raw("\",\n   \"state\": \"");
    writer.Raw(StageName(state.stage));
    writer.Raw("\",\n   \"status\": {\n    \"error_code\": \"");
    writer.Raw(absl::StatusCodeToString(state.status.code()));
    writer.Raw("\",\n    \"error_message\": ");
    writer.String(ErrorText(state.status.message(), kMaxStatusText));
    writer.Raw("\n   }\n  }");
  }
  writer.Raw(states.empty() ? "]\n}\n" : "\n ]\n}\n");
  writer.Flush();
  return json;
}

absl::StatusOr<std::string> ModelMetadataJson(const Servable& servable) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_fields_with_no_presence = true;
  options.preserve_proto_field_names = true;
  std::string json;
  json::Writer writer(&json);
  writer.Raw("{\n\"model_spec\":{\n \"name\": ");
  writer.String(servable.id().name);
  writer.Raw(
      absl::StrCat(",\n \"signature_name\": \"\",\n \"version\": \"", servable.id().version, "\"\n}\n,\n"));
  writer.Raw("\"metadata\": {\"signature_def\": {\n \"signature_def\": {");
  bool first = true;
  for (const auto& [name, signature] : servable.signatures()) {
    std::string def;
    const absl::Status status = google::protobuf::util::MessageToJsonString(signature.def, &def, options);
    if (!status.ok()) {
      return absl::InternalError(
          absl::StrCat("Signature ", name, " cannot be written as JSON: ", status.message()));
    }
    while (!def.empty() && def.back() == '\n') def.pop_back();
    writer.Raw(first ? "\n" : ",\n");
    writer.String(name);
    writer.Raw(": ");
    writer.Raw(def);
    first = false;
  }
  writer.Raw("\n }\n}\n}\n}\n");
  writer.Flush();
  return json;
}

}  // namespace tfipu::serving
