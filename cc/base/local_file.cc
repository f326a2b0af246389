#include "cc/base/local_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tfipu {
namespace {

constexpr absl::string_view kFileScheme = "file://";

absl::Status RefuseUnlessRegular(const std::string& path, mode_t mode) {
  if (S_ISREG(mode)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, " is ", FileKind(mode), ", expected a regular file"));
}

}  // namespace

std::string LocalPath(absl::string_view path) {
  if (!absl::StartsWith(path, kFileScheme)) return std::string(path);
  path.remove_prefix(kFileScheme.size());
  const std::size_t slash = path.find('/');
  return std::string(slash == absl::string_view::npos ? absl::string_view() : path.substr(slash));
}

bool IsRemotePath(absl::string_view path) {
  return absl::StrContains(path, "://") && !absl::StartsWith(path, kFileScheme);
}

const char* FileKind(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "a regular file";
    case S_IFDIR:
      return "a directory";
    case S_IFIFO:
      return "a FIFO";
    case S_IFSOCK:
      return "a socket";
    case S_IFCHR:
    case S_IFBLK:
      return "a device";
    default:
      return "not a file";
  }
}

absl::Status CheckRegularFile(const std::string& path) {
  if (IsRemotePath(path)) return absl::OkStatus();
  const std::string local = LocalPath(path);
  struct stat info;
  if (stat(local.c_str(), &info) != 0) return absl::ErrnoToStatus(errno, path);
  return RefuseUnlessRegular(path, info.st_mode);
}

absl::StatusOr<std::string> ReadLocalFile(const std::string& path) {
  // Without O_NONBLOCK opening a FIFO waits for a writer.
  const int file = open(LocalPath(path).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (file < 0) return absl::ErrnoToStatus(errno, path);
  const absl::Cleanup close_file = [file] { close(file); };
  struct stat info;
  if (fstat(file, &info) != 0) return absl::ErrnoToStatus(errno, path);
  if (absl::Status status = RefuseUnlessRegular(path, info.st_mode); !status.ok()) return status;
  std::string text;
  char piece[64 << 10];
  while (true) {
    const ssize_t got = read(file, piece, sizeof(piece));
    if (got > 0) text.append(piece, static_cast<std::size_t>(got));
    if (got == 0) return text;
    if (got < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
  }
}

}  // namespace tfipu
