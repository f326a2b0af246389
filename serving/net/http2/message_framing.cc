#include "serving/net/http2/message_framing.h"

#include <algorithm>
#include <cstring>

namespace tfipu::serving::net::http2 {
std::optional<MessageEncoding> EncodingOf(std::string_view name) {
  if (name == "identity") return MessageEncoding::kIdentity;
  if (name == "deflate") return MessageEncoding::kDeflate;
  if (name == "gzip") return MessageEncoding::kGzip;
  return std::nullopt;
}

const char* EncodingName(MessageEncoding encoding) {
  switch (encoding) {
    case MessageEncoding::kDeflate:
      return "deflate";
    case MessageEncoding::kGzip:
      return "gzip";
    default:
      return "identity";
  }
}

DeflateFormat FormatOf(MessageEncoding encoding) {
  return encoding == MessageEncoding::kGzip ? DeflateFormat::kGzip : DeflateFormat::kZlib;
}

void WriteMessagePrefix(char* prefix, bool compressed, std::size_t size) {
  prefix[0] = compressed ? 1 : 0;
  prefix[1] = static_cast<char>(size >> 24);
  prefix[2] = static_cast<char>(size >> 16);
  prefix[3] = static_cast<char>(size >> 8);
  prefix[4] = static_cast<char>(size);
}

MessageReader::Result MessageReader::Add(std::string_view* data) {
  if (prefix_size_ < kMessagePrefix) {
    const std::size_t taken = std::min(kMessagePrefix - prefix_size_, data->size());
    std::memcpy(prefix_ + prefix_size_, data->data(), taken);
    prefix_size_ += taken;
    data->remove_prefix(taken);
    if (prefix_size_ < kMessagePrefix) return Result::kIncomplete;
    length_ = std::size_t{prefix_[1]} << 24 | prefix_[2] << 16 | prefix_[3] << 8 | prefix_[4];
    if (length_ > max_bytes_) return Result::kTooLarge;
    message_ = Buffer(account_);
    // Of exactly that size when it is small; one that is announced and never comes costs little.
    constexpr std::size_t kFirst = 256 << 10;
    if (!message_.Reserve(std::min(length_, std::max(kFirst, data->size())))) return Result::kNoMemory;
  }
  const std::size_t taken = std::min(length_ - message_.size(), data->size());
  if (!message_.Append(data->substr(0, taken), length_)) return Result::kNoMemory;
  data->remove_prefix(taken);
  return message_.size() == length_ ? Result::kMessage : Result::kIncomplete;
}

Buffer MessageReader::TakeMessage(bool* compressed) {
  *compressed = (prefix_[0] & 1) != 0;
  prefix_size_ = 0;
  return std::move(message_);
}

std::optional<std::int64_t> ParseTimeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return std::nullopt;
  std::int64_t value = 0;
  for (char digit : text.substr(0, text.size() - 1)) {
    if (digit < '0' || digit > '9') return std::nullopt;
    value = value * 10 + (digit - '0');
  }
  switch (text.back()) {
    case 'H':
      return value * 3600 * 1000000;
    case 'M':
      return value * 60 * 1000000;
    case 'S':
      return value * 1000000;
    case 'm':
      return value * 1000;
    case 'u':
      return value;
    case 'n':
      return value / 1000;
    default:
      return std::nullopt;
  }
}

std::string PercentEncode(std::string_view message) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(message.size());
  for (unsigned char c : message) {
    if (c >= 0x20 && c <= 0x7e && c != '%') {
      encoded.push_back(static_cast<char>(c));
    } else {
      encoded.push_back('%');
      encoded.push_back(kHex[c >> 4]);
      encoded.push_back(kHex[c & 15]);
    }
  }
  return encoded;
}

}  // namespace tfipu::serving::net::http2
