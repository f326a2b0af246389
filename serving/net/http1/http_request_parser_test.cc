#include "serving/net/http1/http_request_parser.h"

#include <gtest/gtest.h>

#include <boost/beast/http/error.hpp>
#include <string>

namespace tfipu::serving::net::http1 {
namespace {

TEST(HasTokenTest, ListsAndWeights) {
  EXPECT_TRUE(HasToken("gzip", "gzip"));
  EXPECT_TRUE(HasToken("deflate, GZip", "gzip"));
  EXPECT_TRUE(HasToken("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip"));
  EXPECT_TRUE(HasToken(" gzip ; q=0.001", "gzip"));
  EXPECT_FALSE(HasToken("gzip;q=0", "gzip"));
  EXPECT_FALSE(HasToken("gzip; q=0.000", "gzip"));
  EXPECT_FALSE(HasToken("", "gzip"));
  EXPECT_FALSE(HasToken("xgzip, gzipx", "gzip"));
  EXPECT_FALSE(HasToken("identity", "gzip"));
}

TEST(HttpRequestParserTest, KeepsTheHead) {
  HttpRequestHead head;
  Buffer body;
  HttpRequestParser parser(&head, &body, 1 << 20);
  const std::string text =
      "POST /a?b HTTP/1.0\r\nHost: x\r\ncontent-TYPE:  text/plain \r\nEmpty:\r\nHost: y\r\n\r\nrest";
  boost::beast::error_code error;
  std::size_t used = 0;
  while (!parser.is_header_done()) {
    used += parser.put(boost::asio::const_buffer(text.data() + used, text.size() - used), error);
    ASSERT_FALSE(error) << error.message();
  }
  EXPECT_EQ(text.substr(used), "rest");
  EXPECT_EQ(head.method(), "POST");
  EXPECT_EQ(head.target(), "/a?b");
  EXPECT_EQ(head.version(), 10);
  EXPECT_EQ(head.field("Content-Type"), "text/plain");
  EXPECT_EQ(head.field("host"), "x");
  EXPECT_EQ(head.field("empty"), "");
  EXPECT_EQ(head.field("none"), "");
  EXPECT_FALSE(parser.foreign_transfer_encoding());
  EXPECT_EQ(parser.hosts(), 2);
}

TEST(HttpRequestParserTest, ChunksByteByByte) {
  HttpRequestHead head;
  Buffer body;
  HttpRequestParser parser(&head, &body, 1 << 20);
  const std::string text =
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n1\r\n "
      "\r\n0005\r\nworld\r\n0\r\nHost: trailer\r\n\r\nnext";
  boost::beast::error_code error;
  std::string buffer;
  std::size_t next = 0;
  while (!parser.is_done()) {
    const std::size_t used = parser.put(boost::asio::const_buffer(buffer.data(), buffer.size()), error);
    buffer.erase(0, used);
    ASSERT_TRUE(!error || error == boost::beast::http::error::need_more) << error.message();
    if ((error || buffer.empty()) && !parser.is_done()) buffer += text.at(next++);
  }
  EXPECT_EQ(body.view(), "hello world");
  EXPECT_EQ(head.field("Host"), "");
  EXPECT_EQ(text.substr(next), "next");
}

}  // namespace
}  // namespace tfipu::serving::net::http1
