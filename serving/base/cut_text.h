// Text that must be short.
#ifndef SERVING_BASE_CUT_TEXT_H_
#define SERVING_BASE_CUT_TEXT_H_

#include <cstddef>
#include <string_view>

namespace tfipu::serving::base {

// The first `most` bytes of a text, or up to three fewer: a character of UTF-8 is never cut in two. What is
// not UTF-8 is cut at `most`.
inline std::string_view CutText(std::string_view text, std::size_t most) {
  if (text.size() <= most) return text;
  std::size_t end = most;
  for (int back = 0; back < 3 && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80; ++back)
    --end;
  const bool is_character = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
  return text.substr(0, is_character ? end : most);
}

}  // namespace tfipu::serving::base

#endif  // SERVING_BASE_CUT_TEXT_H_
