// Files of protobuf text, as configs are.
#ifndef SERVING_CORE_TEXT_PROTO_H_
#define SERVING_CORE_TEXT_PROTO_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"

namespace tfipu::serving {

// A whole file, of the local file system or another that TensorFlow knows. Only regular files are read:
// FailedPrecondition says what else was found.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// Parses a protobuf text file. Errors are those of ReadTextFile(), or InvalidArgument with file, line and
// column.
absl::Status ReadTextProto(const std::string& path, google::protobuf::Message* message);
// The same of text already read; `name` stands for it in errors.
absl::Status ParseTextProto(absl::string_view text, absl::string_view name,
                            google::protobuf::Message* message);

}  // namespace tfipu::serving

#endif  // SERVING_CORE_TEXT_PROTO_H_
