#include "serving/sources/model_config.h"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/text_format.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/platform/path.h"

namespace tfipu::serving {
namespace {

using tensorflow::serving::ModelConfig;
using tensorflow::serving::ModelServerConfig;

// Messages within messages that a text may have; more would take the parser's whole stack.
constexpr int kMaxNesting = 100;

// Keeps the first error with its place.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void RecordError(int line, google::protobuf::io::ColumnNumber column, absl::string_view message) override {
    if (text_.empty()) text_ = absl::StrCat("line ", line + 1, ", column ", column + 1, ": ", message);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// The parser's own limit does not count messages within an Any.
bool NestingIsBounded(absl::string_view text, FirstError* error) {
  google::protobuf::io::ArrayInputStream stream(text.data(), static_cast<int>(text.size()));
  // What is wrong with a token is for the parser to say.
  FirstError ignored;
  google::protobuf::io::Tokenizer tokenizer(&stream, &ignored);
  tokenizer.set_comment_style(google::protobuf::io::Tokenizer::SH_COMMENT_STYLE);
  int depth = 0;
  while (tokenizer.Next()) {
    const std::string& token = tokenizer.current().text;
    if (token == "{" || token == "<" || token == "[") ++depth;
    if (token == "}" || token == ">" || token == "]") --depth;
    if (depth <= kMaxNesting) continue;
    error->RecordError(tokenizer.current().line, tokenizer.current().column,
                       absl::StrCat("found more than ", kMaxNesting, " messages within each other."));
    return false;
  }
  return true;
}

absl::StatusOr<VersionPolicy> PolicyFrom(const ModelConfig& config) {
  VersionPolicy policy;
  const auto& proto = config.model_version_policy();
  if (proto.has_all()) {
    policy.kind = VersionPolicy::Kind::kAll;
  } else if (proto.has_specific()) {
    policy.kind = VersionPolicy::Kind::kSpecific;
    policy.versions.insert(proto.specific().versions().begin(), proto.specific().versions().end());
    if (policy.versions.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("Model ", config.name(),
                       ": model_version_policy is specific but names no version; expected at least one."));
    }
  } else if (proto.has_latest()) {
    // Not set means 1.
    policy.count = static_cast<int>(
        std::clamp<std::uint32_t>(proto.latest().num_versions(), 1, std::numeric_limits<int>::max()));
  }
  return policy;
}

}  // namespace

absl::Status ParseTextProto(absl::string_view text, absl::string_view name,
                            google::protobuf::Message* message) {
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (NestingIsBounded(text, &error) && parser.ParseFromString(std::string(text), message)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(name, " is no ", message->GetDescriptor()->name(),
                                                 " in protobuf text format: ", error.text()));
}

absl::Status ReadTextProto(const std::string& path, google::protobuf::Message* message) {
  std::string text;
  TFIPU_RETURN_IF_ERROR(tensorflow::ReadFileToString(tensorflow::Env::Default(), path, &text));
  return ParseTextProto(text, path, message);
}

std::string AbsolutePath(absl::string_view path) {
  if (path.empty() || path[0] == '/' || absl::StrContains(path, "://")) return std::string(path);
  char folder[4096];
  if (getcwd(folder, sizeof(folder)) == nullptr) return std::string(path);
  return tensorflow::io::JoinPath(folder, path);
}

absl::StatusOr<std::vector<ConfiguredModel>> CheckModelConfig(const ModelServerConfig& config) {
  if (config.has_custom_model_config()) {
    return absl::InvalidArgumentError(
        "The model config has custom_model_config, which this server does not know; expected "
        "model_config_list.");
  }
  std::vector<ConfiguredModel> models;
  std::set<std::string> names;
  for (const ModelConfig& proto : config.model_config_list().config()) {
    if (proto.name().empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("Model number ", models.size() + 1, " of the model config has no name."));
    }
    if (!names.insert(proto.name()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("Model ", proto.name(), " is in the model config twice."));
    }
    if (proto.base_path().empty()) {
      return absl::InvalidArgumentError(absl::StrCat("Model ", proto.name(), " has no base_path."));
    }
    if (!proto.model_platform().empty() && proto.model_platform() != "tensorflow") {
      return absl::InvalidArgumentError(absl::StrCat("Model ", proto.name(), ": found model_platform \"",
                                                     proto.model_platform(), "\", expected \"tensorflow\"."));
    }
    ConfiguredModel model;
    model.watched.name = proto.name();
    model.watched.base_path = AbsolutePath(proto.base_path());
    TFIPU_ASSIGN_OR_RETURN(model.watched.policy, PolicyFrom(proto));
    model.labels.insert(proto.version_labels().begin(), proto.version_labels().end());
    model.logging = proto.logging_config();
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace tfipu::serving
