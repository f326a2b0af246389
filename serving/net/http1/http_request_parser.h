// Parses a request's start line, header fields and chunks. The grammar is Boost.Beast's; this keeps what it
// finds.
#ifndef SERVING_NET_HTTP1_HTTP_REQUEST_PARSER_H_
#define SERVING_NET_HTTP1_HTTP_REQUEST_PARSER_H_

#include <boost/beast/http/basic_parser.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "serving/net/buffer.h"

namespace tfipu::serving::net::http1 {

// What a request's header says. Its memory is kept for the next request.
class HttpRequestHead {
 public:
  void Clear() {
    text_.clear();
    fields_.clear();
    method_size_ = target_size_ = 0;
    version_ = 11;
  }

  // Valid until Clear().
  std::string_view method() const { return {text_.data(), method_size_}; }
  std::string_view target() const { return {text_.data() + method_size_, target_size_}; }
  int version() const { return version_; }  // 10 or 11
  // The first field of that name, in any case of letters; empty when there is none.
  std::string_view field(std::string_view name) const;

 private:
  friend class HttpRequestParser;
  struct Field {
    std::uint32_t begin, name_size, value_size;
  };

  std::string text_;  // method, target, and names and values one after the other
  std::vector<Field> fields_;
  std::size_t method_size_ = 0;
  std::size_t target_size_ = 0;
  int version_ = 11;
};

// Case-insensitive equality of ASCII.
bool EqualsIgnoringCase(std::string_view a, std::string_view b);

// Whether a comma-separated header value has this token, and not with a weight of zero ("gzip;q=0").
bool HasToken(std::string_view list, std::string_view token);

// One request. put() first takes the header, then, of a chunked body only, the chunks, which are appended to
// `body`; the error not_enough_memory tells that it could not take them.
class HttpRequestParser final : public boost::beast::http::basic_parser<true> {
 public:
  HttpRequestParser(HttpRequestHead* head, Buffer* body, std::size_t max_body_bytes)
      : head_(head), body_(body), max_body_bytes_(max_body_bytes) {
    body_limit(static_cast<std::uint64_t>(max_body_bytes));
  }

  // The header names a transfer encoding other than "chunked" alone, of which we could not tell where the
  // body ends.
  bool foreign_transfer_encoding() const { return foreign_transfer_encoding_; }
  // How many Host fields the header has: HTTP/1.1 demands one, and no version allows more.
  int hosts() const { return hosts_; }

 private:
  using Text = boost::beast::string_view;
  using Error = boost::beast::error_code;

  void on_request_impl(boost::beast::http::verb, Text method, Text target, int version, Error&) override;
  void on_response_impl(int, Text, int, Error&) override {}
  void on_field_impl(boost::beast::http::field name, Text name_text, Text value, Error&) override;
  void on_header_impl(Error&) override { header_done_ = true; }
  void on_body_init_impl(const boost::optional<std::uint64_t>&, Error&) override {}
  std::size_t on_body_impl(Text, Error&) override { return 0; }
  void on_chunk_header_impl(std::uint64_t, Text, Error&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, Text chunk, Error& error) override;
  void on_finish_impl(Error&) override {}

  HttpRequestHead* const head_;
  Buffer* const body_;
  const std::size_t max_body_bytes_;
  bool header_done_ = false;  // fields that follow are trailers, which we ignore
  bool foreign_transfer_encoding_ = false;
  int hosts_ = 0;
};

}  // namespace tfipu::serving::net::http1

#endif  // SERVING_NET_HTTP1_HTTP_REQUEST_PARSER_H_
