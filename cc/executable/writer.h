// Writes executable files.
#ifndef CC_EXECUTABLE_WRITER_H_
#define CC_EXECUTABLE_WRITER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cc/executable/executable.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// Collects blobs, then writes them behind their header in one go. Not thread-safe; use once.
//   ExecutableWriter writer;
//   *stage->mutable_code() = writer.AddBlob(code);
//   TFIPU_RETURN_IF_ERROR(writer.Write(header, path));
class ExecutableWriter {
 public:
  // Takes the bytes; the returned Blob goes into the header. Its offset is relative until Write() makes it
  // final. Bytes that were added before are kept once.
  Blob AddBlob(std::string bytes);

  // Writes to a temporary file beside `path`, syncs it and renames it: a reader never sees half a file. Fills
  // in header.file_size. InvalidArgument: the header is not valid (see validate.h), names a blob that
  // AddBlob() did not return, or misses one that it did. Errors of the file system name the path. Equal blobs
  // and headers give equal files.
  absl::Status Write(ExecutableHeader header, const std::string& path);

 private:
  struct Added {
    std::string bytes;
    Blob blob;
  };
  std::vector<Added> blobs_;
};

// Writes the blobs of `executable` behind another header, whose Blobs are still those of executable.header().
// Errors as ExecutableWriter::Write().
absl::Status WriteCopy(const Executable& executable, ExecutableHeader header, const std::string& path);

}  // namespace tfipu

#endif  // CC_EXECUTABLE_WRITER_H_
