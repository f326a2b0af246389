// Reads JSON text value by value, without building a tree.
#ifndef SERVING_JSON_READER_H_
#define SERVING_JSON_READER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"

namespace tfipu::serving::json {

// A cursor over a text. RFC 8259, and beside it the numbers NaN, Infinity (or Inf) and -Infinity. Strings are
// bytes: that they are UTF-8 is not checked, escapes are. A byte order mark may come first. Nothing recurses,
// and `max_depth` bounds how deep arrays and objects lie in each other.
//
// A value is read by the method for its kind, with the cursor anywhere in the white space before it.
// Containers are read as
//   if (reader.Enter('[')) while (reader.NextElement()) { ...read one value... }
//   if (reader.Enter('{')) while (reader.NextMember(&key)) { ...read one value... }
// The first failure sticks: every later call does nothing and says false, and status() names what was wrong,
// and where.
class Reader {
 public:
  Reader(absl::string_view text, int max_depth)
      : begin_(text.data()),
        p_(text.data() + (absl::StartsWith(text, "\xEF\xBB\xBF") ? 3 : 0)),
        end_(text.data() + text.size()),
        max_depth_(max_depth) {}

  const absl::Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }

  // The next value's first character, or '\0' at the end of the text.
  char Peek() {
    SkipSpace();
    return p_ == end_ ? '\0' : *p_;
  }

  // Opens an array ('[') or an object ('{').
  bool Enter(char open);
  // Whether another element follows; if not, the array is closed.
  bool NextElement();
  // Whether another member follows; if not, the object is closed. The key is valid until the next string is
  // read.
  bool NextMember(absl::string_view* key);

  // A string, unescaped. Valid until the next string is read, and as long as the text.
  bool ReadString(absl::string_view* value);
  // A number of any form as a double; magnitudes beyond double's are refused. `integer`, when not null, says
  // whether it was written without fraction and exponent and fits an int64, which is then in it.
  bool ReadNumber(double* value, bool* is_integer, std::int64_t* integer);
  bool ReadBool(bool* value);
  // Any value, checked and dropped.
  bool SkipValue();
  // That only white space is left, up to a NUL: many clients in C send one, and nobody looks at what is
  // behind it.
  bool Finish();

  // Fails here, and says false.
  bool Fail(absl::string_view what);

  // For loops that read long arrays themselves: the cursor, the end of the text, and depth.
  const char* cursor() const { return p_; }
  const char* begin() const { return begin_; }
  const char* end() const { return end_; }
  void set_cursor(const char* p) { p_ = p; }
  int depth_left() const { return max_depth_ - depth_; }

  void SkipSpace() {
    while (p_ != end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
  }

 private:
  bool Unescape(const char* p, absl::string_view* value);
  bool Literal(absl::string_view word);
  void Leave() {
    ++p_;
    --depth_;
    fresh_ = false;
  }

  const char* const begin_;
  const char* p_;
  const char* const end_;
  const int max_depth_;
  int depth_ = 0;
  bool fresh_ = false;  // the innermost container was just opened
  std::string scratch_;
  absl::Status status_;
};

}  // namespace tfipu::serving::json

#endif  // SERVING_JSON_READER_H_
