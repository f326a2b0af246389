// gzip and zlib streams, as HTTP bodies and gRPC messages use them. Plain C++.
#ifndef SERVING_NET_DEFLATE_H_
#define SERVING_NET_DEFLATE_H_

#include <cstddef>
#include <memory>
#include <string_view>

#include "serving/net/buffer.h"

namespace tfipu::serving::net {

enum class DeflateFormat {
  kGzip,  // RFC 1952; one or more members
  kZlib,  // RFC 1950
  kAny,   // when reading: whichever it is
};

// What may be inflated or deflated by a thread that others wait for, in bytes of output.
constexpr std::size_t kSmallInflation = 64 << 10;

// Inflates in steps, so that one can stop between them, or another thread go on. Never writes more than one
// byte beyond the bound, and its memory grows with what is there.
class Inflater {
 public:
  // `input` stays where it is.
  Inflater(DeflateFormat format, std::string_view input, std::size_t max_bytes, Buffer* out);
  ~Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  enum class Result {
    kMore,      // call again
    kDone,      // `out` has it all
    kTooLarge,  // it is more than `max_bytes`
    kCorrupt,   // it is not such a stream, is cut short, or something else follows it
    kNoMemory,  // the bounds of the buffer's account or the machine do not allow it
  };
  // Goes on for about `step` bytes of output or of input.
  Result Run(std::size_t step);

 private:
  struct Stream;
  Result NextMember();
  bool MakeRoom();

  const DeflateFormat format_;
  std::string_view input_;
  const std::size_t max_bytes_;
  Buffer* const out_;
  std::unique_ptr<Stream> stream_;  // null when memory is short
  bool is_gzip_;
};

// Deflates `plain` behind `prefix` bytes that are left as they are. False when memory is short or it would
// not be smaller; then `out` is empty.
bool DeflateIfSmaller(DeflateFormat format, int level, std::string_view plain, std::size_t prefix,
                      Buffer* out);

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_DEFLATE_H_
