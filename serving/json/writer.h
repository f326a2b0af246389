// Writes JSON values into one string.
#ifndef SERVING_JSON_WRITER_H_
#define SERVING_JSON_WRITER_H_

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"

namespace tfipu::serving::json {

// Appends to a string through a small buffer. What was written is in the string after Flush(). Punctuation is
// the caller's.
class Writer {
 public:
  explicit Writer(std::string* out) : out_(out) {}
  ~Writer() { Flush(); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void Raw(absl::string_view text) {
    if (text.size() > sizeof(buffer_) - used_) {
      Flush();
      if (text.size() > sizeof(buffer_)) {
        out_->append(text.data(), text.size());
        return;
      }
    }
    std::memcpy(buffer_ + used_, text.data(), text.size());
    used_ += text.size();
  }

  // The shortest digits that read back as the same number, always with a point or an exponent ("3.0"); NaN,
  // Infinity and -Infinity by these names.
  void Float(float value);
  void Float(double value);

  template <class T>
  void Integer(T value) {
    char* const p = Room();
    used_ = std::to_chars(p, p + kLongestNumber, value).ptr - buffer_;
  }
  void Bool(bool value) { Raw(value ? "true" : "false"); }

  // In quotes, escaped. Bytes from 0x80 on are written as they are.
  void String(absl::string_view value);
  // {"b64": "..."}
  void Base64(absl::string_view bytes);

  void Flush() {
    out_->append(buffer_, used_);
    used_ = 0;
  }

 private:
  static constexpr std::size_t kLongestNumber = 40;

  char* Room() {
    if (sizeof(buffer_) - used_ < kLongestNumber) Flush();
    return buffer_ + used_;
  }
  template <class T>
  void Floating(T value);

  std::string* const out_;
  std::size_t used_ = 0;
  char buffer_[1024];
};

// {"error": "..."}
std::string ErrorObject(absl::string_view message);

}  // namespace tfipu::serving::json

#endif  // SERVING_JSON_WRITER_H_
