// How gRPC puts messages, deadlines and statuses on HTTP/2.
#ifndef SERVING_NET_HTTP2_MESSAGE_FRAMING_H_
#define SERVING_NET_HTTP2_MESSAGE_FRAMING_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "serving/net/buffer.h"
#include "serving/net/deflate.h"

namespace tfipu::serving::net::http2 {

// Message encodings of the headers grpc-encoding and grpc-accept-encoding.
enum class MessageEncoding { kIdentity, kDeflate, kGzip };

// nullopt for an encoding that is not known.
std::optional<MessageEncoding> EncodingOf(std::string_view name);
const char* EncodingName(MessageEncoding encoding);
// Not of kIdentity.
DeflateFormat FormatOf(MessageEncoding encoding);

// What comes before a message: whether it is compressed, and its length.
constexpr std::size_t kMessagePrefix = 5;
void WriteMessagePrefix(char* prefix, bool compressed, std::size_t size);

// Makes messages of a stream's bytes. Memory grows with what has come, not with what a prefix promises, and
// is counted by the account.
class MessageReader {
 public:
  // A message may have `max_bytes`, compressed or not.
  MessageReader(MemoryAccount* account, std::size_t max_bytes) : account_(account), max_bytes_(max_bytes) {}

  enum class Result {
    kIncomplete,  // all bytes are taken and no message is complete yet
    kMessage,     // a message is complete; take it, and call again with what is left
    kTooLarge,    // the message is larger than allowed
    kNoMemory,    // the account or the machine does not allow it
  };
  // Takes bytes from the front of `*data`.
  Result Add(std::string_view* data);
  // The complete message, and whether it is compressed; the next Add() begins another.
  Buffer TakeMessage(bool* compressed);
  // Whether a part of a message has come.
  bool partial() const { return prefix_size_ > 0; }
  // Forgets it.
  void Clear() {
    prefix_size_ = 0;
    message_.Clear();
  }

 private:
  MemoryAccount* const account_;
  const std::size_t max_bytes_;
  unsigned char prefix_[kMessagePrefix];
  std::size_t prefix_size_ = 0;
  std::size_t length_ = 0;
  Buffer message_;
};

// Microseconds of a grpc-timeout header ("100m"); nullopt when it is malformed.
std::optional<std::int64_t> ParseTimeout(std::string_view text);

// A status message as the header grpc-message has it.
std::string PercentEncode(std::string_view message);

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_MESSAGE_FRAMING_H_
