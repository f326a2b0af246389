// An executable file in memory: checked once, then only read.
#ifndef CC_EXECUTABLE_EXECUTABLE_H_
#define CC_EXECUTABLE_EXECUTABLE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cc/base/buffer.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// The contents of an executable file, every byte verified against its checksums: magic, format version,
// header, blobs, and that nothing but zeros lies between or behind them; the header's fields fit each other
// (validate.h says what that promises). Immutable and thread-safe.
//
// The bytes are a private, read-only copy: a file that is cut short, overwritten or deleted later, or that
// lies on a share that goes away, neither crashes the process nor changes what was verified. Within a process
// the copy exists once: opening an unchanged file again, while an Executable of it lives, returns that one.
class Executable {
 public:
  // Reads and verifies `path`. NotFound: no such file. DataLoss: cut short, altered, or not an executable.
  // Unimplemented: a format version this build does not read. ResourceExhausted: no memory for it. Each names
  // the path, what was found and what was expected. Says nothing about whether this machine can run it: see
  // compatibility.h.
  static absl::StatusOr<std::shared_ptr<const Executable>> Open(const std::string& path);

  ~Executable();
  Executable(const Executable&) = delete;
  Executable& operator=(const Executable&) = delete;

  const ExecutableHeader& header() const { return header_; }
  const std::string& path() const { return path_; }

  // SHA-256 over the header (and through it over all blobs), in hexadecimal: names the contents.
  const std::string& digest() const { return digest_; }

  // The bytes of a blob that this executable's header names. Starts at a multiple of kBufferAlignment; lives
  // as long as this Executable. Empty for a blob that lies outside the file, which none of its header does.
  ConstBuffer blob(const Blob& blob) const;

 private:
  class Reader;
  Executable() = default;

  std::string path_;
  std::string digest_;
  ExecutableHeader header_;
  std::byte* bytes_ = nullptr;  // the whole file
  std::uint64_t size_ = 0;
};

// Bytes of one element; 0 for INVALID and unknown types.
std::size_t ElementSize(ElementType type);

// "float32", "int8", ...
std::string ElementTypeName(ElementType type);

// Bytes of a whole tensor, or InvalidArgument if a dimension is negative or the size does not fit 63 bits.
absl::StatusOr<std::size_t> TensorSize(const TensorSpec& spec);

// "float32[4,2]"
std::string ToString(const TensorSpec& spec);

}  // namespace tfipu

#endif  // CC_EXECUTABLE_EXECUTABLE_H_
