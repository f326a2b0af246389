// Frames of a client, for tests.
#ifndef SERVING_NET_HTTP2_FRAMES_FOR_TEST_H_
#define SERVING_NET_HTTP2_FRAMES_FOR_TEST_H_

#include <cstdint>
#include <string>

#include "serving/net/http2/message_framing.h"

namespace tfipu::serving::net::http2 {

inline std::string Frame(int type, int flags, std::uint32_t stream, const std::string& payload) {
  std::string frame;
  for (int shift : {16, 8, 0}) frame.push_back(static_cast<char>(payload.size() >> shift));
  frame.push_back(static_cast<char>(type));
  frame.push_back(static_cast<char>(flags));
  for (int shift : {24, 16, 8, 0}) frame.push_back(static_cast<char>(stream >> shift));
  return frame + payload;
}

// A literal without indexing.
inline std::string Field(const std::string& name, const std::string& value) {
  std::string field(1, '\0');
  field.push_back(static_cast<char>(name.size()));
  field += name;
  field.push_back(static_cast<char>(value.size()));
  return field + value;
}

// `settings`: the payload of the first SETTINGS frame.
inline std::string Preface(const std::string& settings = "") {
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(4, 0, 0, settings);
}

inline std::string Headers(std::uint32_t stream, const std::string& path, int flags = 4,
                           const std::string& more = "") {
  return Frame(1, flags, stream,
               "\x83" + Field(":path", path) + Field(":scheme", "http") + Field(":authority", "x") +
                   Field("content-type", "application/grpc") + Field("te", "trailers") + more);
}

inline std::string Message(const std::string& text, bool compressed = false) {
  std::string framed(kMessagePrefix, '\0');
  WriteMessagePrefix(framed.data(), compressed, text.size());
  return framed + text;
}

inline std::string Data(std::uint32_t stream, const std::string& bytes, bool end) {
  return Frame(0, end ? 1 : 0, stream, bytes);
}

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_FRAMES_FOR_TEST_H_
