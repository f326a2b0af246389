#include "serving/core/text_proto.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/local_file.h"
#include "cc/base/status_macros.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/text_format.h"
#include "tensorflow/core/platform/env.h"

namespace tfipu::serving {
namespace {

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

}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& path) {
  if (!IsRemotePath(path)) return ReadLocalFile(path);
  std::string text;
  TFIPU_RETURN_IF_ERROR(tensorflow::ReadFileToString(tensorflow::Env::Default(), path, &text));
  return text;
}

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
  TFIPU_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  return ParseTextProto(text, path, message);
}

}  // namespace tfipu::serving
