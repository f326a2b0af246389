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

// A mapped executable file whose every byte was verified against its checksums: magic, format version, header,
// blobs, and that nothing lies between or behind them. Immutable and thread-safe; the file is mapped read-only until
// the last reference goes, so weights are in memory once however many engines use them.
class Executable {
 public:
  // Maps and verifies `path`. NotFound: no such file. DataLoss: cut short, altered, or not an executable.
  // Unimplemented: a format version this build does not read. Each names what was found and what was expected.
  // Says nothing about whether this machine can run it: see compatibility.h.
  static absl::StatusOr<std::shared_ptr<const Executable>> Open(const std::string& path);

  ~Executable();
  Executable(const Executable&) = delete;
  Executable& operator=(const Executable&) = delete;

  const ExecutableHeader& header() const { return header_; }
  const std::string& path() const { return path_; }

  // SHA-256 over the header (and through it over all blobs), in hexadecimal: names the contents.
  const std::string& digest() const { return digest_; }

  // The bytes of a blob that this executable's header names. Starts at a multiple of kBufferAlignment.
  ConstBuffer blob(const Blob& blob) const;

 private:
  Executable() = default;

  std::string path_;
  std::string digest_;
  ExecutableHeader header_;
  const std::byte* mapped_ = nullptr;
  std::uint64_t mapped_size_ = 0;
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
