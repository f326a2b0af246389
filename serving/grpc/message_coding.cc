#include "serving/grpc/message_coding.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace tfipu::serving {
namespace {

// Ends a zlib stream with its scope.
template <int (*End)(z_streamp)>
struct StreamScope {
  ~StreamScope() { End(&stream); }
  z_stream stream{};
};

// Window bits that make zlib speak gzip.
constexpr int WindowBits(MessageEncoding encoding) {
  return encoding == MessageEncoding::kGzip ? 15 + 16 : 15;
}

}  // namespace

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

void WriteMessagePrefix(char* prefix, bool compressed, std::size_t size) {
  prefix[0] = compressed ? 1 : 0;
  prefix[1] = static_cast<char>(size >> 24);
  prefix[2] = static_cast<char>(size >> 16);
  prefix[3] = static_cast<char>(size >> 8);
  prefix[4] = static_cast<char>(size);
}

MessageAssembler::Result MessageAssembler::Add(std::string_view* data) {
  if (prefix_size_ < kMessagePrefix) {
    const std::size_t taken = std::min(kMessagePrefix - prefix_size_, data->size());
    std::memcpy(prefix_ + prefix_size_, data->data(), taken);
    prefix_size_ += taken;
    data->remove_prefix(taken);
    if (prefix_size_ < kMessagePrefix) return Result::kIncomplete;
    length_ = std::size_t{prefix_[1]} << 24 | prefix_[2] << 16 | prefix_[3] << 8 | prefix_[4];
    if (length_ > max_bytes_) return Result::kTooLarge;
    constexpr std::size_t kFirst = 1 << 20;
    capacity_ = std::min(length_, std::max(kFirst, data->size()));
    message_.data.reset(new char[capacity_]);
    message_.size = 0;
  }
  const std::size_t taken = std::min(length_ - message_.size, data->size());
  if (message_.size + taken > capacity_) {
    const std::size_t grown = std::min(length_, std::max(capacity_ * 2, message_.size + taken));
    std::unique_ptr<char[]> larger(new char[grown]);
    std::memcpy(larger.get(), message_.data.get(), message_.size);
    message_.data = std::move(larger);
    capacity_ = grown;
  }
  if (taken > 0) std::memcpy(message_.data.get() + message_.size, data->data(), taken);
  message_.size += taken;
  data->remove_prefix(taken);
  return message_.size == length_ ? Result::kMessage : Result::kIncomplete;
}

Bytes MessageAssembler::TakeMessage(bool* compressed) {
  *compressed = (prefix_[0] & 1) != 0;
  prefix_size_ = 0;
  return std::move(message_);
}

std::optional<Bytes> Decompress(MessageEncoding encoding, std::string_view data, std::size_t max_bytes,
                                bool* too_large) {
  *too_large = false;
  StreamScope<inflateEnd> scope;
  z_stream& stream = scope.stream;
  if (inflateInit2(&stream, WindowBits(encoding)) != Z_OK) return std::nullopt;
  if (data.size() > std::numeric_limits<uInt>::max()) return std::nullopt;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  Bytes plain;
  std::size_t capacity = 0;
  while (true) {
    if (plain.size == capacity) {
      // One byte more than allowed shows that it is too large.
      const std::size_t limit = max_bytes + 1;
      if (capacity == limit) {
        *too_large = true;
        return std::nullopt;
      }
      const std::size_t grown = std::min(limit, std::max<std::size_t>({capacity * 2, data.size() * 4, 4096}));
      std::unique_ptr<char[]> larger(new char[grown]);
      if (plain.size > 0) std::memcpy(larger.get(), plain.data.get(), plain.size);
      plain.data = std::move(larger);
      capacity = grown;
    }
    const std::size_t room = std::min<std::size_t>(capacity - plain.size, std::numeric_limits<uInt>::max());
    stream.next_out = reinterpret_cast<Bytef*>(plain.data.get() + plain.size);
    stream.avail_out = static_cast<uInt>(room);
    const int result = inflate(&stream, Z_NO_FLUSH);
    plain.size += room - stream.avail_out;
    if (result == Z_STREAM_END) break;
    // Without progress though there is room, the input has ended early.
    if (result != Z_OK || (stream.avail_in == 0 && stream.avail_out != 0)) return std::nullopt;
  }
  if (plain.size > max_bytes) {
    *too_large = true;
    return std::nullopt;
  }
  return plain;
}

std::optional<Bytes> CompressWithPrefix(MessageEncoding encoding, std::string_view data) {
  StreamScope<deflateEnd> scope;
  z_stream& stream = scope.stream;
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WindowBits(encoding), 8, Z_DEFAULT_STRATEGY) !=
      Z_OK) {
    return std::nullopt;
  }
  if (data.size() > std::numeric_limits<uInt>::max()) return std::nullopt;
  Bytes packed;
  packed.data.reset(new char[kMessagePrefix + data.size()]);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data.get() + kMessagePrefix);
  stream.avail_out = static_cast<uInt>(data.size());
  if (deflate(&stream, Z_FINISH) != Z_STREAM_END) return std::nullopt;
  packed.size = kMessagePrefix + stream.total_out;
  WriteMessagePrefix(packed.data.get(), true, stream.total_out);
  return packed;
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

}  // namespace tfipu::serving
