#include "serving/json/reader.h"

#include <cstring>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "serving/json/number.h"

namespace tfipu::serving::json {
namespace {

// The length of the run at `p` of what a string may hold as it is: no quote, backslash or control character.
std::size_t PlainRun(const char* p, const char* end) {
  const char* const start = p;
  constexpr std::uint64_t kOnes = 0x0101010101010101u;
  constexpr std::uint64_t kHighs = 0x8080808080808080u;
  while (end - p >= 8) {
    const std::uint64_t word = number_internal::Load8(p);
    const std::uint64_t quote = word ^ (kOnes * '"');
    const std::uint64_t backslash = word ^ (kOnes * '\\');
    const std::uint64_t found =
        ((quote - kOnes) & ~quote) | ((backslash - kOnes) & ~backslash) | ((word - kOnes * 0x20) & ~word);
    if ((found & kHighs) != 0) break;
    p += 8;
  }
  while (p != end && *p != '"' && *p != '\\' && static_cast<unsigned char>(*p) >= 0x20) ++p;
  return p - start;
}

// Four hexadecimal digits at `p`, or -1.
int Hex4(const char* p, const char* end) {
  if (end - p < 4) return -1;
  int value = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = p[i];
    int digit;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else {
      return -1;
    }
    value = value * 16 + digit;
  }
  return value;
}

void AppendUtf8(unsigned code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (code >> 6)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (code >> 12)));
    out->push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | (code >> 18)));
    out->push_back(static_cast<char>(0x80 | ((code >> 12) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

}  // namespace

bool Reader::Fail(absl::string_view what) {
  if (status_.ok()) {
    status_ =
        absl::InvalidArgumentError(absl::StrCat("JSON Parse error: ", what, " at offset: ", p_ - begin_));
  }
  return false;
}

bool Reader::Enter(char open) {
  if (!ok()) return false;
  if (Peek() != open) return Fail(open == '[' ? "Expected an array" : "Expected an object");
  if (depth_ >= max_depth_) {
    return Fail(absl::StrCat("Arrays and objects lie deeper in each other than the limit of ", max_depth_));
  }
  ++p_;
  ++depth_;
  fresh_ = true;
  return true;
}

bool Reader::NextElement() {
  if (!ok()) return false;
  const char c = Peek();
  if (c == ']') {
    Leave();
    return false;
  }
  if (fresh_) {
    fresh_ = false;
    return true;
  }
  if (c != ',') return Fail("Expected ',' or ']' after an array's element");
  ++p_;
  if (Peek() == ']') return Fail("Expected a value after ','");
  return true;
}

bool Reader::NextMember(absl::string_view* key) {
  if (!ok()) return false;
  const char c = Peek();
  if (c == '}') {
    Leave();
    return false;
  }
  if (fresh_) {
    fresh_ = false;
  } else {
    if (c != ',') return Fail("Expected ',' or '}' after an object's member");
    ++p_;
  }
  if (Peek() != '"') return Fail("Expected a name in quotes");
  if (!ReadString(key)) return false;
  if (Peek() != ':') return Fail("Expected ':' after a name");
  ++p_;
  return true;
}

bool Reader::ReadString(absl::string_view* value) {
  if (!ok()) return false;
  if (Peek() != '"') return Fail("Expected a string");
  const char* const start = p_ + 1;
  const char* const p = start + PlainRun(start, end_);
  if (p != end_ && *p == '"') {
    *value = absl::string_view(start, p - start);
    p_ = p + 1;
    return true;
  }
  scratch_.assign(start, p - start);
  return Unescape(p, value);
}

bool Reader::Unescape(const char* p, absl::string_view* value) {
  while (true) {
    if (p == end_) {
      p_ = p;
      return Fail("Missing the closing quote of a string");
    }
    if (*p == '"') break;
    if (*p != '\\') {
      p_ = p;
      return Fail("Control characters in a string must be escaped");
    }
    p_ = p;
    if (++p == end_) continue;
    const char c = *p++;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        scratch_.push_back(c);
        break;
      case 'b':
        scratch_.push_back('\b');
        break;
      case 'f':
        scratch_.push_back('\f');
        break;
      case 'n':
        scratch_.push_back('\n');
        break;
      case 'r':
        scratch_.push_back('\r');
        break;
      case 't':
        scratch_.push_back('\t');
        break;
      case 'u': {
        const int first = Hex4(p, end_);
        if (first < 0) return Fail("Expected four hexadecimal digits after \\u");
        p += 4;
        unsigned code = first;
        if (first >= 0xD800 && first < 0xE000) {
          int second = -1;
          if (first < 0xDC00 && end_ - p >= 2 && p[0] == '\\' && p[1] == 'u') second = Hex4(p + 2, end_);
          if (second < 0xDC00 || second >= 0xE000) return Fail("The surrogate pair in string is invalid");
          p += 6;
          code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        }
        AppendUtf8(code, &scratch_);
        break;
      }
      default:
        return Fail("Invalid escape character in string");
    }
    const std::size_t run = PlainRun(p, end_);
    scratch_.append(p, run);
    p += run;
  }
  p_ = p + 1;
  *value = scratch_;
  return true;
}

bool Reader::Literal(absl::string_view word) {
  if (static_cast<std::size_t>(end_ - p_) < word.size() || std::memcmp(p_, word.data(), word.size()) != 0) {
    return false;
  }
  p_ += word.size();
  return true;
}

bool Reader::ReadNumber(double* value, bool* is_integer, std::int64_t* integer) {
  if (!ok()) return false;
  Peek();
  if (is_integer != nullptr) *is_integer = false;
  const char* const start = p_;
  Number number;
  const char* const end = ScanNumber(p_, end_, &number);
  if (end == nullptr) {
    const bool negative = p_ != end_ && *p_ == '-';
    if (negative) ++p_;
    if (Literal("NaN")) {
      *value = std::numeric_limits<double>::quiet_NaN();
    } else if (Literal("Infinity") || Literal("Inf")) {
      *value = negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
    } else {
      p_ = start;
      return Fail("Invalid value.");
    }
    return true;
  }
  if (is_integer != nullptr && number.integer && number.exact) {
    const std::uint64_t limit = std::uint64_t{1} << 63;
    if (number.negative ? number.digits <= limit : number.digits < limit) {
      *is_integer = true;
      *integer = number.negative ? static_cast<std::int64_t>(0 - number.digits)
                                 : static_cast<std::int64_t>(number.digits);
    }
  }
  if (!NumberValue(start, end, number, value)) return Fail("Number too big to be stored in double.");
  p_ = end;
  return true;
}

bool Reader::ReadBool(bool* value) {
  if (!ok()) return false;
  Peek();
  if (Literal("true")) {
    *value = true;
  } else if (Literal("false")) {
    *value = false;
  } else {
    return Fail("Expected true or false");
  }
  return true;
}

bool Reader::SkipValue() {
  std::string open;  // what was entered, innermost last
  while (ok()) {
    const char c = Peek();
    absl::string_view text;
    double number;
    if (c == '[' || c == '{') {
      if (!Enter(c)) return false;
      open.push_back(c);
    } else if (c == '"') {
      if (!ReadString(&text)) return false;
    } else if (c == 't' || c == 'f') {
      bool value;
      if (!ReadBool(&value)) return false;
    } else if (c == 'n') {
      if (!Literal("null")) return Fail("Invalid value.");
    } else if (!ReadNumber(&number, nullptr, nullptr)) {
      return false;
    }
    while (true) {
      if (open.empty()) return true;
      if (open.back() == '[' ? NextElement() : NextMember(&text)) break;
      if (!ok()) return false;
      open.pop_back();
    }
  }
  return false;
}

bool Reader::Finish() {
  if (!ok()) return false;
  SkipSpace();
  if (p_ != end_ && *p_ != '\0') return Fail("The document root must not be followed by other values.");
  return true;
}

}  // namespace tfipu::serving::json
