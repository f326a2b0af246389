#include "cc/executable/format.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "cc/base/sha256.h"

namespace tfipu {
namespace {

constexpr std::size_t kDigestOffset = 32;

template <typename Integer>
void Put(Integer value, std::size_t at, std::string& bytes) {
  for (std::size_t i = 0; i < sizeof(Integer); ++i) bytes[at + i] = static_cast<char>(value >> (8 * i));
}

template <typename Integer>
Integer Get(absl::string_view bytes, std::size_t at) {
  Integer value = 0;
  for (std::size_t i = 0; i < sizeof(Integer); ++i) {
    value |= static_cast<Integer>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return value;
}

}  // namespace

std::string MakePreamble(absl::string_view header) {
  std::string preamble(kPreambleSize, '\0');
  preamble.replace(0, kMagic.size(), kMagic.data(), kMagic.size());
  Put(kFormatVersion, 8, preamble);
  Put(std::uint64_t{header.size()}, 16, preamble);
  preamble.replace(kDigestOffset, Sha256::kSize, HeaderDigest(preamble, header));
  return preamble;
}

absl::StatusOr<std::uint64_t> ParsePreamble(absl::string_view preamble) {
  if (preamble.substr(0, kMagic.size()) != kMagic) {
    return absl::DataLossError(absl::StrCat("it is not an executable: found \"",
                                            absl::CHexEscape(preamble.substr(0, kMagic.size())),
                                            "\" at its start, expected \"", absl::CHexEscape(kMagic), "\""));
  }
  if (const auto version = Get<std::uint32_t>(preamble, 8); version != kFormatVersion) {
    return absl::UnimplementedError(absl::StrCat(
        "found format version ", version, ", expected version ", kFormatVersion, ", which this build reads",
        version > kFormatVersion ? ". Export the model again, or update the package that loads it"
                                 : ". Export the model again"));
  }
  if (Get<std::uint32_t>(preamble, 12) != 0 || Get<std::uint64_t>(preamble, 24) != 0) {
    return absl::DataLossError("found values in the reserved bytes of the preamble, expected zeros");
  }
  const auto size = Get<std::uint64_t>(preamble, 16);
  if (size == 0 || size > kMaxHeaderSize) {
    return absl::DataLossError(
        absl::StrCat("found a header of ", size, " bytes, expected between 1 and ", kMaxHeaderSize));
  }
  return size;
}

std::string HeaderDigest(absl::string_view preamble, absl::string_view header) {
  Sha256 hash;
  hash.Update(preamble.substr(0, kDigestOffset));
  hash.Update(header);
  return hash.Finish();
}

absl::StatusOr<std::vector<Extent>> Layout(const ExecutableHeader& header, std::uint64_t begin) {
  struct Named {
    std::string name;
    const Blob* blob;
  };
  std::vector<Named> blobs;
  ForEachBlob(header, [&](std::string name, const Blob& blob) { blobs.push_back({std::move(name), &blob}); });

  for (const auto& [name, blob] : blobs) {
    if (blob->sha256().size() != Sha256::kSize) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ".sha256 has ", blob->sha256().size(), " bytes, expected ", Sha256::kSize));
    }
    if (blob->offset() % kBufferAlignment != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ".offset is ", blob->offset(), ", expected a multiple of ", kBufferAlignment));
    }
    if (blob->offset() < begin || blob->offset() > header.file_size() ||
        blob->size() > header.file_size() - blob->offset()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " takes ", blob->size(), " bytes from offset ", blob->offset(),
                       ", expected to lie between the end of the header at ", begin,
                       " and the end of the file at ", header.file_size()));
    }
  }

  std::stable_sort(blobs.begin(), blobs.end(), [](const Named& a, const Named& b) {
    return std::pair(a.blob->offset(), a.blob->size()) < std::pair(b.blob->offset(), b.blob->size());
  });
  std::vector<Extent> extents;
  const Named* last = nullptr;
  std::uint64_t end = begin;
  for (const Named& named : blobs) {
    const Blob& blob = *named.blob;
    if (last != nullptr && last->blob->offset() == blob.offset() && last->blob->size() == blob.size()) {
      if (last->blob->sha256() != blob.sha256()) {
        return absl::InvalidArgumentError(
            absl::StrCat(named.name, " and ", last->name, " are the same bytes with different checksums"));
      }
      continue;
    }
    if (blob.offset() < end) {
      return absl::InvalidArgumentError(absl::StrCat(named.name, " at offset ", blob.offset(), " overlaps ",
                                                     last->name, ", which ends at ", end));
    }
    if (blob.offset() > end) extents.push_back({end, blob.offset() - end, nullptr});
    extents.push_back({blob.offset(), blob.size(), &blob});
    end = blob.offset() + blob.size();
    last = &named;
  }
  if (header.file_size() < end) {
    return absl::InvalidArgumentError(
        absl::StrCat("file_size is ", header.file_size(), ", expected at least ", end));
  }
  if (header.file_size() > end) extents.push_back({end, header.file_size() - end, nullptr});
  return extents;
}

}  // namespace tfipu
