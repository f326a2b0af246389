#include "serving/api/repeated_bytes.h"

#include <atomic>

#include "absl/strings/str_cat.h"

namespace tfipu::serving {
namespace {

std::atomic<std::size_t> taken{0};

}  // namespace

absl::Status RepeatedBytes::Take(std::size_t bytes) {
  if (bytes == 0) return absl::OkStatus();
  if (taken.fetch_add(bytes) + bytes > kMaxRepeatedBytesInAll) {
    taken.fetch_sub(bytes);
    return absl::ResourceExhaustedError(
        absl::StrCat("Requests whose values are repeated may take ", kMaxRepeatedBytesInAll,
                     " bytes at the same time; there is no room for ", bytes, " more now"));
  }
  bytes_ += bytes;
  return absl::OkStatus();
}

void RepeatedBytes::Release() {
  if (bytes_ > 0) taken.fetch_sub(bytes_);
}

}  // namespace tfipu::serving
