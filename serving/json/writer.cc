#include "serving/json/writer.h"

#include <cmath>

#include "absl/strings/escaping.h"

namespace tfipu::serving::json {

template <class T>
void Writer::Floating(T value) {
  if (!std::isfinite(value)) {
    Raw(std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
    return;
  }
  char* const p = Room();
  char* end;
  if (std::abs(value) < 1e7f) {
    const auto whole = static_cast<std::int32_t>(value);
    if (value != static_cast<T>(whole) || (whole == 0 && std::signbit(value))) {
      // Digits behind the point, or an exponent; but for -0.
      end = std::to_chars(p, p + kLongestNumber, value).ptr;
      if (value != 0) {
        used_ = end - buffer_;
        return;
      }
    } else {
      end = std::to_chars(p, p + kLongestNumber, whole).ptr;
    }
  } else {
    end = std::to_chars(p, p + kLongestNumber, value).ptr;
    if (std::memchr(p, '.', end - p) != nullptr || std::memchr(p, 'e', end - p) != nullptr) {
      used_ = end - buffer_;
      return;
    }
  }
  *end++ = '.';
  *end++ = '0';
  used_ = end - buffer_;
}

void Writer::Float(float value) { Floating(value); }
void Writer::Float(double value) { Floating(value); }

void Writer::String(absl::string_view value) {
  static constexpr char kHex[] = "0123456789abcdef";
  Raw("\"");
  std::size_t start = 0;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const unsigned char c = value[i];
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    Raw(value.substr(start, i - start));
    start = i + 1;
    switch (c) {
      case '"':
        Raw("\\\"");
        break;
      case '\\':
        Raw("\\\\");
        break;
      case '\b':
        Raw("\\b");
        break;
      case '\f':
        Raw("\\f");
        break;
      case '\n':
        Raw("\\n");
        break;
      case '\r':
        Raw("\\r");
        break;
      case '\t':
        Raw("\\t");
        break;
      default: {
        const char escape[] = {'\\', 'u', '0', '0', kHex[c >> 4], kHex[c & 15]};
        Raw(absl::string_view(escape, sizeof(escape)));
      }
    }
  }
  Raw(value.substr(start));
  Raw("\"");
}

void Writer::Base64(absl::string_view bytes) {
  Raw("{\"b64\": \"");
  Raw(absl::Base64Escape(bytes));
  Raw("\"}");
}

std::string ErrorObject(absl::string_view message) {
  std::string body;
  Writer writer(&body);
  writer.Raw("{\"error\": ");
  writer.String(message);
  writer.Raw("}");
  writer.Flush();
  return body;
}

}  // namespace tfipu::serving::json
