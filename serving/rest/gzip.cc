#include "serving/rest/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>

namespace tfipu::serving {
namespace {

constexpr int kGzipFormat = 16;    // added to the window bits: write gzip
constexpr int kDetectFormat = 32;  // added to the window bits: read gzip or zlib
constexpr int kMemoryLevel = 8;    // zlib's default
constexpr int kFast = 1;           // a higher level costs more time than it saves on the wire
constexpr std::size_t kMaxStep = std::numeric_limits<unsigned>::max() / 2;

unsigned Step(std::size_t size) { return static_cast<unsigned>(std::min(size, kMaxStep)); }

Bytef* Bytes(const char* data) { return reinterpret_cast<Bytef*>(const_cast<char*>(data)); }

bool Resize(std::string* text, std::size_t size) {
  try {
    text->resize(size);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

}  // namespace

GunzipResult Gunzip(std::string_view compressed, std::size_t max_bytes, std::string* out) {
  out->clear();
  z_stream stream{};
  if (inflateInit2(&stream, MAX_WBITS + kDetectFormat) != Z_OK) return GunzipResult::kNoMemory;
  GunzipResult result = GunzipResult::kOk;
  std::size_t read = 0;
  std::size_t written = 0;
  while (true) {
    if (written == out->size()) {
      if (written > max_bytes) {
        result = GunzipResult::kTooLarge;
        break;
      }
      // One byte more than allowed shows that there is more.
      if (!Resize(out, std::min(std::max<std::size_t>({written * 2, compressed.size() * 3, 4096}),
                                max_bytes + 1))) {
        result = GunzipResult::kNoMemory;
        break;
      }
    }
    stream.next_in = Bytes(compressed.data() + read);
    stream.avail_in = Step(compressed.size() - read);
    stream.next_out = Bytes(out->data() + written);
    stream.avail_out = Step(out->size() - written);
    const unsigned in = stream.avail_in;
    const unsigned room = stream.avail_out;
    const int code = inflate(&stream, Z_NO_FLUSH);
    read += in - stream.avail_in;
    written += room - stream.avail_out;
    if (code == Z_STREAM_END) {
      if (written > max_bytes) {
        result = GunzipResult::kTooLarge;
      } else if (read != compressed.size()) {
        result = GunzipResult::kCorrupt;
      }
      break;
    }
    if (code == Z_MEM_ERROR) {
      result = GunzipResult::kNoMemory;
      break;
    }
    const bool stuck = in == stream.avail_in && room == stream.avail_out;
    if ((code != Z_OK && code != Z_BUF_ERROR) || (stuck && room != 0)) {
      result = GunzipResult::kCorrupt;
      break;
    }
  }
  inflateEnd(&stream);
  out->resize(result == GunzipResult::kOk ? written : 0);
  return result;
}

bool Gzip(std::string_view plain, std::string* out) {
  z_stream stream{};
  if (deflateInit2(&stream, kFast, Z_DEFLATED, MAX_WBITS + kGzipFormat, kMemoryLevel, Z_DEFAULT_STRATEGY) !=
      Z_OK) {
    return false;
  }
  if (!Resize(out, deflateBound(&stream, plain.size()))) {
    deflateEnd(&stream);
    return false;
  }
  std::size_t read = 0;
  std::size_t written = 0;
  int code;
  do {
    stream.next_in = Bytes(plain.data() + read);
    stream.avail_in = Step(plain.size() - read);
    stream.next_out = Bytes(out->data() + written);
    stream.avail_out = Step(out->size() - written);
    const unsigned in = stream.avail_in;
    const unsigned room = stream.avail_out;
    code = deflate(&stream, read + in == plain.size() ? Z_FINISH : Z_NO_FLUSH);
    read += in - stream.avail_in;
    written += room - stream.avail_out;
  } while (code == Z_OK);
  deflateEnd(&stream);
  out->resize(written);
  return code == Z_STREAM_END;
}

}  // namespace tfipu::serving
