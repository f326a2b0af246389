// Texts that go back to clients.
#ifndef SERVING_API_ERROR_TEXT_H_
#define SERVING_API_ERROR_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace tfipu::serving {

// Whether bytes are UTF-8, as protobuf demands of its strings: shortest forms, no surrogates, nothing above
// U+10FFFF.
bool IsUtf8(absl::string_view bytes);

// What an error says of itself may hold names and values that a client sent, of any size and any bytes, and
// goes where only UTF-8 and some KiB may go: a header, a protobuf string, JSON. Whatever is not UTF-8 becomes
// U+FFFD. A text longer than `limit` is cut between two characters and ends with "...".
constexpr std::size_t kMaxErrorText = 1024;
std::string ErrorText(absl::string_view text, std::size_t limit = kMaxErrorText);

}  // namespace tfipu::serving

#endif  // SERVING_API_ERROR_TEXT_H_
