#include "serving/net/http1/http_request_fuzz.h"

#include <algorithm>
#include <boost/beast/http/error.hpp>
#include <cstdint>
#include <cstdlib>

#include "serving/net/http1/http_request_parser.h"

namespace tfipu::serving::net::http1 {
namespace {

constexpr std::size_t kMaxBody = 1 << 16;

void Demand(bool promise) {
  if (!promise) std::abort();
}

}  // namespace

bool ParseHttpFuzzInput(std::string_view input) {
  if (input.empty()) return false;
  const std::string text(input.substr(1));
  std::size_t next = std::min<std::size_t>(static_cast<unsigned char>(input[0]), text.size());
  HttpRequestHead head;
  MemoryAccount account(nullptr, kMaxBody / 2);
  Buffer body(&account);
  HttpRequestParser parser(&head, &body, kMaxBody);
  parser.header_limit(1 << 16);
  std::string buffer = text.substr(0, next);
  while (!parser.is_done()) {
    boost::beast::error_code error;
    std::size_t used = 0;
    if (!buffer.empty()) used = parser.put(boost::asio::const_buffer(buffer.data(), buffer.size()), error);
    buffer.erase(0, used);
    if (error && error != boost::beast::http::error::need_more) return false;
    if (parser.is_done() || (parser.is_header_done() && !parser.chunked())) break;
    if (used > 0 && !error && !buffer.empty()) continue;
    if (next == text.size()) return false;
    buffer += text.substr(next);
    next = text.size();
  }
  Demand(body.size() <= kMaxBody / 2 && account.held() <= kMaxBody / 2);
  Demand(head.method().size() + head.target().size() <= text.size());
  Demand(parser.hosts() > 0 || head.field("Host").empty());
  HasToken(head.field("Accept-Encoding"), "gzip");
  return true;
}

std::vector<std::string> HttpFuzzSeeds() {
  return {
      "\x10GET /v1/models/m HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br;q=1, gzip;q=0.5\r\nConnection: "
      "close\r\n\r\n",
      "\x50POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
  };
}

}  // namespace tfipu::serving::net::http1

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tfipu::serving::net::http1::ParseHttpFuzzInput({reinterpret_cast<const char*>(data), size});
  return 0;
}
