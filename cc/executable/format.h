// The bytes around an executable's header. docs/design/executable_format.md describes the whole file.
#ifndef CC_EXECUTABLE_FORMAT_H_
#define CC_EXECUTABLE_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cc/base/buffer.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// The first byte is not text, and the line ends show a file that went through a text-mode transfer.
inline constexpr absl::string_view kMagic = "\x89TFIPU\r\n";
inline constexpr std::uint32_t kFormatVersion = 2;

// Raised when code or runtime interpret a header or a blob in a new way although executable.proto stays as it
// is: another order of arguments, another meaning of a field, other contents of a blob.
inline constexpr std::uint32_t kExecutableAbi = 1;

// Preamble, all integers little-endian:
//   0  magic (8 bytes)      8  format version (4)     12  zero (4)
//  16  header size (8)     24  zero (8)               32  SHA-256 over bytes 0 to 31 and the header
// The header, a serialised ExecutableHeader, follows at once; then the blobs, each aligned, zeros between
// them.
inline constexpr std::size_t kPreambleSize = 64;
inline constexpr std::size_t kMaxHeaderSize = std::size_t{64} << 20;

// Blobs start at multiples of kBufferAlignment; those of at least kPagedBlobSize bytes at multiples of
// kPageSize.
inline constexpr std::size_t kPageSize = 4096;
inline constexpr std::size_t kPagedBlobSize = 64 * 1024;

inline std::uint64_t BlobAlignment(std::uint64_t size) {
  return size >= kPagedBlobSize ? kPageSize : kBufferAlignment;
}

inline std::uint64_t AlignUp(std::uint64_t offset, std::uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

// The preamble of a header that was serialised to `header`.
std::string MakePreamble(absl::string_view header);

// The header size a preamble gives. DataLoss: not an executable. Unimplemented: another format version.
absl::StatusOr<std::uint64_t> ParsePreamble(absl::string_view preamble);

// SHA-256 over the preamble's first half and the header: what the preamble's second half must be.
std::string HeaderDigest(absl::string_view preamble, absl::string_view header);

// A run of bytes behind the header: a blob, or zeros where `blob` is null.
struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  const Blob* blob = nullptr;
};

// The file from `begin` (the end of the header) to header.file_size(), without a gap, in order. Blobs that
// several fields name appear once. InvalidArgument: a blob lies outside, is misaligned, or overlaps another
// one.
absl::StatusOr<std::vector<Extent>> Layout(const ExecutableHeader& header, std::uint64_t begin);

// Calls visit(name of the field, blob) for each blob that a header names; Header is const or not.
template <typename Header, typename Visit>
void ForEachBlob(Header& header, const Visit& visit) {
  // `program` is the header, or a variant of it.
  const auto visit_stages = [&](auto& program, const std::string& prefix) {
    for (int i = 0; i < program.stages_size(); ++i) {
      const std::string name = prefix + "stages[" + std::to_string(i) + "].";
      if constexpr (std::is_const_v<Header>) {
        const Stage& stage = program.stages(i);
        if (stage.has_code()) visit(name + "code", stage.code());
        if (stage.has_hlo()) visit(name + "hlo", stage.hlo());
      } else {
        Stage* stage = program.mutable_stages(i);
        if (stage->has_code()) visit(name + "code", *stage->mutable_code());
        if (stage->has_hlo()) visit(name + "hlo", *stage->mutable_hlo());
      }
    }
  };
  visit_stages(header, "");
  for (int i = 0; i < header.row_variants_size(); ++i) {
    const std::string prefix = "row_variants[" + std::to_string(i) + "].";
    if constexpr (std::is_const_v<Header>) {
      visit_stages(header.row_variants(i), prefix);
    } else {
      visit_stages(*header.mutable_row_variants(i), prefix);
    }
  }
  for (int i = 0; i < header.weights_size(); ++i) {
    const std::string name = "weights[" + std::to_string(i) + "].blob";
    if constexpr (std::is_const_v<Header>) {
      if (header.weights(i).has_blob()) visit(name, header.weights(i).blob());
    } else {
      if (header.weights(i).has_blob()) visit(name, *header.mutable_weights(i)->mutable_blob());
    }
  }
}

}  // namespace tfipu

#endif  // CC_EXECUTABLE_FORMAT_H_
