// How gRPC puts messages, deadlines and statuses on HTTP/2.
#ifndef SERVING_GRPC_MESSAGE_CODING_H_
#define SERVING_GRPC_MESSAGE_CODING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace tfipu::serving {

// Message encodings of the headers grpc-encoding and grpc-accept-encoding.
enum class MessageEncoding { kIdentity, kDeflate, kGzip };

// nullopt for an encoding that is not known.
std::optional<MessageEncoding> EncodingOf(std::string_view name);
const char* EncodingName(MessageEncoding encoding);

// A message's memory. Not initialised when made.
struct Bytes {
  std::unique_ptr<char[]> data;
  std::size_t size = 0;
};

// One message's encoded bytes, with its five bytes in front. The buffer holds those as its first five bytes
// already.
constexpr std::size_t kMessagePrefix = 5;
void WriteMessagePrefix(char* prefix, bool compressed, std::size_t size);

// Makes messages of a stream's bytes. Memory grows with what has come, not with what a prefix promises.
class MessageAssembler {
 public:
  // A message may have `max_bytes`, compressed or not.
  explicit MessageAssembler(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  enum class Result {
    kIncomplete,  // all bytes are taken and no message is complete yet
    kMessage,     // message() is complete; call again with what is left
    kTooLarge,    // the message is larger than allowed
  };
  // Takes bytes from the front of `*data`.
  Result Add(std::string_view* data);
  // The complete message, and whether it is compressed; the next Add() begins another.
  Bytes TakeMessage(bool* compressed);
  // Whether a part of a message has come.
  bool partial() const { return prefix_size_ > 0; }

 private:
  const std::size_t max_bytes_;
  unsigned char prefix_[kMessagePrefix];
  std::size_t prefix_size_ = 0;
  std::size_t length_ = 0;
  Bytes message_;
  std::size_t capacity_ = 0;
};

// The plain bytes of a compressed message; nullopt when it is damaged or has more than `max_bytes`, which
// `*too_large` tells.
std::optional<Bytes> Decompress(MessageEncoding encoding, std::string_view data, std::size_t max_bytes,
                                bool* too_large);
// A message compressed, with room for the prefix in front; nullopt when that fails or saves nothing.
std::optional<Bytes> CompressWithPrefix(MessageEncoding encoding, std::string_view data);

// Microseconds of a grpc-timeout header ("100m"); nullopt when it is none.
std::optional<std::int64_t> ParseTimeout(std::string_view text);

// A status message as the header grpc-message has it.
std::string PercentEncode(std::string_view message);

}  // namespace tfipu::serving

#endif  // SERVING_GRPC_MESSAGE_CODING_H_
