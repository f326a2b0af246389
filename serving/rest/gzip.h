// gzip, as HTTP bodies use it.
#ifndef SERVING_REST_GZIP_H_
#define SERVING_REST_GZIP_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace tfipu::serving {

enum class GunzipResult {
  kOk,
  kTooLarge,  // it would be more than `max_bytes`
  kCorrupt,   // it is no gzip or zlib stream, is cut short, or something follows it
  kNoMemory,
};

// Decompresses a gzip or zlib stream. `out` never takes more than about twice `max_bytes`.
GunzipResult Gunzip(std::string_view compressed, std::size_t max_bytes, std::string* out);

// Compresses at a level that favours speed. False, and `out` is of no use, when memory is short.
bool Gzip(std::string_view plain, std::string* out);

}  // namespace tfipu::serving

#endif  // SERVING_REST_GZIP_H_
