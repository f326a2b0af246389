// Paths of the local file system, and what may be opened there.
#ifndef CC_BASE_LOCAL_FILE_H_
#define CC_BASE_LOCAL_FILE_H_

#include <sys/stat.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tfipu {

// "/a/b" for the URL "file:///a/b" (or "file://host/a/b": the host is not looked at), read as TensorFlow
// reads it. Every other path stays as it is.
std::string LocalPath(absl::string_view path);

// Whether the path lies on another file system than the local one, as "gs://bucket/model" does.
bool IsRemotePath(absl::string_view path);

// "a FIFO", "a directory", ...: for messages.
const char* FileKind(mode_t mode);

// Only regular files are opened: to open or read anything else (a FIFO, a socket, a device) may never end.
// FailedPrecondition says what was found; errors of the system are passed on. Remote paths are OK unseen.
absl::Status CheckRegularFile(const std::string& path);

// The whole text of a regular file of the local file system.
absl::StatusOr<std::string> ReadLocalFile(const std::string& path);

}  // namespace tfipu

#endif  // CC_BASE_LOCAL_FILE_H_
