#include "serving/api/error_text.h"

#include <cstdint>
#include <cstring>

namespace tfipu::serving {
namespace {

constexpr absl::string_view kReplacement = "\xEF\xBF\xBD";
constexpr absl::string_view kCut = "...";

// Length of the character at the text's beginning, or 0 when there is none.
std::size_t CharacterSize(absl::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t size = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
  if (size == 0 || text.size() < size) return 0;
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Longer than need be, a surrogate, or beyond the last character.
  const unsigned char second = byte(1);
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second >= 0xA0) ||
      (first == 0xF0 && second < 0x90) || (first == 0xF4 && second >= 0x90)) {
    return 0;
  }
  return size;
}

}  // namespace

bool IsUtf8(absl::string_view bytes) {
  while (!bytes.empty()) {
    std::uint64_t word;
    if (bytes.size() >= sizeof(word)) {
      std::memcpy(&word, bytes.data(), sizeof(word));
      if ((word & 0x8080808080808080u) == 0) {
        bytes.remove_prefix(sizeof(word));
        continue;
      }
    }
    const std::size_t size = CharacterSize(bytes);
    if (size == 0) return false;
    bytes.remove_prefix(size);
  }
  return true;
}

std::string ErrorText(absl::string_view text, std::size_t limit) {
  std::string out;
  std::size_t fits = 0;  // as much of `out` as leaves room for what says that it was cut
  while (!text.empty()) {
    const std::size_t size = CharacterSize(text);
    out.append(size == 0 ? kReplacement : text.substr(0, size));
    text.remove_prefix(size == 0 ? 1 : size);
    if (out.size() + kCut.size() <= limit) fits = out.size();
    if (out.size() > limit) {
      out.resize(fits);
      out.append(kCut);
      break;
    }
  }
  return out;
}

}  // namespace tfipu::serving
