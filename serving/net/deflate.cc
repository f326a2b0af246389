#include "serving/net/deflate.h"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>

namespace tfipu::serving::net {
namespace {

constexpr int kGzipFormat = 16;    // added to the window bits
constexpr int kDetectFormat = 32;  // added to the window bits when reading
constexpr int kMemoryLevel = 8;    // zlib's default
constexpr std::size_t kMaxStep = std::numeric_limits<unsigned>::max() / 2;

int WindowBits(DeflateFormat format) {
  return MAX_WBITS + (format == DeflateFormat::kGzip  ? kGzipFormat
                      : format == DeflateFormat::kAny ? kDetectFormat
                                                      : 0);
}

Bytef* Bytes(const char* data) { return reinterpret_cast<Bytef*>(const_cast<char*>(data)); }

bool BeginsAsGzip(std::string_view text) {
  return text.size() >= 2 && text[0] == '\x1f' && text[1] == '\x8b';
}

}  // namespace

struct Inflater::Stream {
  ~Stream() { inflateEnd(&z); }
  z_stream z{};
};

Inflater::Inflater(DeflateFormat format, std::string_view input, std::size_t max_bytes, Buffer* out)
    : format_(format),
      input_(input),
      max_bytes_(max_bytes),
      out_(out),
      stream_(new (std::nothrow) Stream),
      is_gzip_(BeginsAsGzip(input)) {
  if (stream_ != nullptr && inflateInit2(&stream_->z, WindowBits(format)) != Z_OK) stream_.reset();
}

Inflater::~Inflater() = default;

bool Inflater::MakeRoom() {
  // One byte more than allowed shows that there is more.
  const std::size_t limit = max_bytes_ + 1;
  if (out_->size() < out_->capacity()) return true;
  const std::size_t first = std::min(std::max<std::size_t>(input_.size() * 3, 4096), kSmallInflation);
  return out_->Grow(std::min(limit, std::max(first, out_->size() + 1)), limit);
}

Inflater::Result Inflater::Run(std::size_t step) {
  if (stream_ == nullptr) return Result::kNoMemory;
  z_stream& z = stream_->z;
  std::size_t in_left = step;
  std::size_t out_left = step;
  while (in_left > 0 && out_left > 0) {
    if (out_->size() > max_bytes_) return Result::kTooLarge;
    if (!MakeRoom()) return Result::kNoMemory;
    const std::size_t in = std::min({input_.size(), in_left, kMaxStep});
    const std::size_t room = std::min({out_->capacity() - out_->size(), out_left, kMaxStep});
    z.next_in = Bytes(input_.data());
    z.avail_in = static_cast<uInt>(in);
    z.next_out = Bytes(out_->data() + out_->size());
    z.avail_out = static_cast<uInt>(room);
    const int code = inflate(&z, Z_NO_FLUSH);
    const std::size_t read = in - z.avail_in;
    const std::size_t written = room - z.avail_out;
    input_.remove_prefix(read);
    out_->set_size(out_->size() + written);
    in_left -= read;
    out_left -= written;
    if (code == Z_STREAM_END) {
      const Result result = NextMember();
      if (result != Result::kMore) return result;
      // A member costs something even when it is empty.
      in_left -= std::min<std::size_t>(in_left, 64);
      continue;
    }
    if (code == Z_MEM_ERROR) return Result::kNoMemory;
    if (code != Z_OK && code != Z_BUF_ERROR) return Result::kCorrupt;
    // Without progress though there is room, the input has ended early.
    if (read == 0 && written == 0) return Result::kCorrupt;
  }
  return Result::kMore;
}

Inflater::Result Inflater::NextMember() {
  if (input_.empty()) return out_->size() > max_bytes_ ? Result::kTooLarge : Result::kDone;
  // RFC 1952: members follow each other with nothing before, between or after them.
  if (!is_gzip_ || format_ == DeflateFormat::kZlib || !BeginsAsGzip(input_)) return Result::kCorrupt;
  return inflateReset(&stream_->z) == Z_OK ? Result::kMore : Result::kCorrupt;
}

bool DeflateIfSmaller(DeflateFormat format, int level, std::string_view plain, std::size_t prefix,
                      Buffer* out) {
  out->Clear();
  z_stream z{};
  if (plain.empty() ||
      deflateInit2(&z, level, Z_DEFLATED, WindowBits(format), kMemoryLevel, Z_DEFAULT_STRATEGY) != Z_OK) {
    return false;
  }
  bool ok = out->Reserve(prefix + plain.size());
  std::size_t written = 0;
  int code = Z_OK;
  while (ok && code == Z_OK) {
    const std::size_t in = std::min(plain.size(), kMaxStep);
    const std::size_t room = std::min(out->capacity() - prefix - written, kMaxStep);
    z.next_in = Bytes(plain.data());
    z.avail_in = static_cast<uInt>(in);
    z.next_out = Bytes(out->data() + prefix + written);
    z.avail_out = static_cast<uInt>(room);
    code = deflate(&z, in == plain.size() ? Z_FINISH : Z_NO_FLUSH);
    plain.remove_prefix(in - z.avail_in);
    written += room - z.avail_out;
    ok = room > z.avail_out || code == Z_STREAM_END || in > z.avail_in;
  }
  deflateEnd(&z);
  if (ok && code == Z_STREAM_END) {
    out->set_size(prefix + written);
    return true;
  }
  out->Clear();
  return false;
}

}  // namespace tfipu::serving::net
