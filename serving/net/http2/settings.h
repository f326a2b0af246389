// What can be set of HTTP/2 connections and the calls on them.
#ifndef SERVING_NET_HTTP2_SETTINGS_H_
#define SERVING_NET_HTTP2_SETTINGS_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "serving/net/http2/message_framing.h"

namespace tfipu::serving::net::http2 {

// Times are in microseconds; INT64_MAX is never.
struct Settings {
  std::size_t max_request_bytes = 0x7fffffff;  // compressed and plain
  std::size_t max_reply_bytes = 0xffffffff;
  std::size_t max_calls = 0;                    // of all connections; 0: no bound
  std::uint32_t max_concurrent_streams = 1000;  // of one connection
  std::uint32_t max_header_bytes = 64 << 10;
  std::size_t max_connection_bytes = 0;  // see MemoryAccount
  std::optional<MessageEncoding> reply_encoding;
  std::int64_t keepalive_time = INT64_MAX;  // without any byte before a ping asks whether the client is there
  std::int64_t keepalive_timeout = 20 * 1000000;
  std::int64_t max_idle = INT64_MAX;  // without calls
  std::int64_t max_age = INT64_MAX;
  std::int64_t max_age_grace = INT64_MAX;
  std::int64_t handshake_timeout = 20 * 1000000;
};

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_SETTINGS_H_
