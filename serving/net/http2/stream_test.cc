#include "serving/net/http2/stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace tfipu::serving::net::http2 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Framed(const std::string& message, bool compressed = false) {
  std::string framed(kMessagePrefix, '\0');
  WriteMessagePrefix(framed.data(), compressed, message.size());
  return framed + message;
}

class StreamTest : public testing::Test, public StreamHost {
 protected:
  StreamTest() {
    context_.settings.max_request_bytes = 1000;
    context_.methods["/s/Unary"].handle = [this](RpcCall* call) { held_ = call; };
    context_.methods["/s/Stream"].handle = [this](RpcCall* call) { held_ = call; };
    context_.methods["/s/Stream"].streaming = true;
    context_.methods["/s/Watch"].watch = [this](std::string_view request, std::string* message) {
      *message = watched_;
      return request != "bad";
    };
    for (auto& [path, method] : context_.methods) method.path = path;
  }

  Stream* Begin(const std::string& path, std::vector<std::pair<std::string, std::string>> headers = {}) {
    stream_ = std::make_unique<Stream>(this, nullptr, &context_, account_, 1);
    stream_->OnHeader(":method", "POST");
    stream_->OnHeader(":path", path);
    stream_->OnHeader("content-type", "application/grpc");
    for (const auto& [name, value] : headers) EXPECT_TRUE(stream_->OnHeader(name, value));
    stream_->OnHeadersEnd();
    return stream_.get();
  }
  // Runs the method of what is ready.
  RpcCall* Run() {
    EXPECT_NE(ready_, nullptr);
    Stream* const stream = std::exchange(ready_, nullptr);
    stream->BeginMethod();
    context_.calls++;
    stream->method()->handle(stream);
    return held_;
  }
  static std::string RequestOf(RpcCall* call) {
    return std::string(static_cast<const char*>(call->request()[0].data), call->request()[0].size);
  }
  static void Reply(RpcCall* call, const std::string& text) {
    std::memcpy(call->AllocateReply(text.size()), text.data(), text.size());
    call->Finish({});
  }
  std::string Take() {
    bool end;
    const std::size_t size = stream_->ReadReply(10000, &end);
    std::string text(stream_->TakeReply(size));
    return end ? text + "|" : text;
  }

  // StreamHost
  void SendHeaders(Stream*, bool body_follows) override {
    events_.push_back(body_follows ? "headers" : "error");
  }
  void SendHttpError(Stream*, const char* status) override { events_.push_back(status); }
  void SendMore(Stream*) override { events_.push_back("more"); }
  void Consumed(Stream*, std::size_t bytes) override { consumed_ += bytes; }
  void OnReady(Stream* stream) override { ready_ = stream; }
  void OnAnswerTaken(Stream*) override { ++taken_; }
  void OnStreamMail(Stream* stream) override { stream->Finished(); }

  CallContext context_;
  std::shared_ptr<MemoryAccount> account_ = std::make_shared<MemoryAccount>(nullptr, 100000);
  std::unique_ptr<Stream> stream_;
  std::vector<std::string> events_;
  std::size_t consumed_ = 0;
  Stream* ready_ = nullptr;
  int taken_ = 0;
  RpcCall* held_ = nullptr;
  std::string watched_ = "one";
};

TEST_F(StreamTest, AUnaryCall) {
  Stream* const stream = Begin("/s/Unary", {{"key", "value"}, {"grpc-timeout", "1H"}});
  EXPECT_TRUE(stream->has_deadline());
  const std::string data = Framed("request");
  stream->OnData(data.substr(0, 3));
  stream->OnData(data.substr(3));
  EXPECT_EQ(consumed_, data.size());
  EXPECT_EQ(ready_, nullptr);
  stream->OnClientEnd();
  RpcCall* const call = Run();
  EXPECT_EQ(RequestOf(call), "request");
  EXPECT_EQ(call->metadata("key"), "value");
  EXPECT_FALSE(call->large());
  Reply(call, "reply");
  EXPECT_THAT(events_, ElementsAre("headers"));
  EXPECT_EQ(Take(), Framed("reply") + "|");
  EXPECT_EQ(stream->end_code(), 0);
  EXPECT_TRUE(stream->Detach());
  stream_.reset();
  EXPECT_EQ(account_->held(), 0);
  EXPECT_EQ(context_.calls, 0);
}

TEST_F(StreamTest, ASecondMessageEndsAUnaryCallAndNothingIsKept) {
  Stream* const stream = Begin("/s/Unary");
  stream->OnData(Framed("one"));
  stream->OnData(Framed("two"));
  EXPECT_THAT(events_, ElementsAre("error"));
  EXPECT_EQ(stream->end_code(), kInternal);
  EXPECT_THAT(stream->end_message(), HasSubstr("this one has more"));
  const std::size_t held = account_->held();
  const std::size_t consumed = consumed_;
  for (int i = 0; i < 1000; ++i) stream->OnData(Framed(std::string(900, 'x')));
  EXPECT_EQ(account_->held(), held);
  EXPECT_EQ(consumed_, consumed);
  stream->OnClientEnd();
  EXPECT_EQ(events_.size(), 1);
}

TEST_F(StreamTest, RefusesWhatIsNotACall) {
  EXPECT_EQ(Begin("/s/Nope")->end_code(), kUnimplemented);
  EXPECT_THAT(stream_->end_message(), HasSubstr("/s/Nope"));
  EXPECT_EQ(Begin("/s/Unary", {{"grpc-encoding", "br"}})->end_code(), kUnimplemented);
  for (const char* timeout : {"", "1", "abc", "123456789S", "-1S", "1S "}) {
    EXPECT_EQ(Begin("/s/Unary", {{"grpc-timeout", timeout}})->end_code(), kInternal) << timeout;
  }
  Begin("/s/Unary")->OnClientEnd();
  EXPECT_EQ(stream_->end_code(), kInternal);
  Begin("/s/Unary")->OnData("\0\0\0\0\x05x");
  stream_->OnClientEnd();
  EXPECT_EQ(stream_->end_code(), kInternal);
  Begin("/s/Unary")->OnData(Framed(std::string(1001, 'x')).substr(0, 6));
  EXPECT_EQ(stream_->end_code(), kResourceExhausted);
  Begin("/s/Unary")->OnData(Framed("x", true));
  EXPECT_EQ(stream_->end_code(), kInternal);
  Begin("/s/Unary", {{"grpc-encoding", "gzip"}})->OnData(Framed("no gzip", true));
  EXPECT_EQ(stream_->end_code(), kInternal);
}

TEST_F(StreamTest, InflatesWithinTheBounds) {
  const auto packed = [](std::size_t size) {
    Buffer out;
    EXPECT_TRUE(DeflateIfSmaller(DeflateFormat::kGzip, 6, std::string(size, 'x'), 0, &out));
    return Framed(std::string(out.view()), true);
  };
  Stream* stream = Begin("/s/Unary", {{"grpc-encoding", "gzip"}});
  stream->OnData(packed(1000));
  stream->OnClientEnd();
  EXPECT_EQ(RequestOf(Run()), std::string(1000, 'x'));
  held_->Finish({5, "not found"});
  EXPECT_EQ(stream->end_code(), 5);
  Begin("/s/Unary", {{"grpc-encoding", "gzip"}})->OnData(packed(1001));
  EXPECT_EQ(stream_->end_code(), kResourceExhausted);
  EXPECT_THAT(stream_->end_message(), HasSubstr("when decompressed"));
}

TEST_F(StreamTest, AStreamsNextMessageWaitsUntilTheAnswerIsTaken) {
  Stream* const stream = Begin("/s/Stream");
  const std::string one = Framed("one"), two = Framed("two");
  stream->OnData(one + two + Framed("three"));
  EXPECT_EQ(consumed_, one.size());
  EXPECT_EQ(RequestOf(Run()), "one");
  stream->OnData(Framed("four"));
  Reply(held_, "ONE");
  EXPECT_EQ(ready_, nullptr);
  EXPECT_EQ(consumed_, one.size());
  EXPECT_EQ(Take(), Framed("ONE"));
  EXPECT_EQ(taken_, 1);
  stream->OnAnswerLeft();
  EXPECT_EQ(consumed_, one.size() + two.size());
  for (const char* text : {"two", "three", "four"}) {
    if (std::strcmp(text, "four") == 0) stream->OnClientEnd();
    EXPECT_EQ(RequestOf(Run()), text);
    Reply(held_, text);
    EXPECT_EQ(Take(), Framed(text) + (std::strcmp(text, "four") == 0 ? "|" : ""));
    stream->OnAnswerLeft();
  }
  EXPECT_EQ(stream->end_code(), 0);
}

TEST_F(StreamTest, AnswersAreCounted) {
  Begin("/s/Unary")->OnData(Framed("x"));
  stream_->OnClientEnd();
  RpcCall* const call = Run();
  EXPECT_TRUE(call->Hold(50000));
  EXPECT_FALSE(call->Hold(60000));
  EXPECT_EQ(call->AllocateReply(60000), nullptr);
  call->Finish({});
  EXPECT_EQ(stream_->end_code(), kResourceExhausted);
}

TEST_F(StreamTest, AWatchTellsTheLatest) {
  Stream* const stream = Begin("/s/Watch");
  stream->OnData(Framed("request"));
  stream->OnClientEnd();
  watched_ = "two";
  stream->OnNotified();
  watched_ = "three";
  stream->OnNotified();
  EXPECT_EQ(Take(), Framed("one"));
  stream->OnAnswerLeft();
  EXPECT_EQ(Take(), Framed("three"));
  stream->OnAnswerLeft();
  stream->OnNotified();
  EXPECT_EQ(Take(), "");
  Begin("/s/Watch")->OnData(Framed("bad"));
  stream_->OnClientEnd();
  EXPECT_EQ(stream_->end_code(), kInvalidArgument);
}

TEST_F(StreamTest, ACallOutlivesItsStream) {
  Begin("/s/Unary")->OnData(Framed("x"));
  stream_->OnClientEnd();
  RpcCall* const call = Run();
  EXPECT_FALSE(call->cancelled());
  ASSERT_FALSE(stream_->Detach());
  EXPECT_TRUE(call->cancelled());
  stream_.release();
  Reply(call, "nobody reads this");
  EXPECT_EQ(account_->held(), 0);
}

TEST_F(StreamTest, HeadersAreBounded) {
  context_.settings.max_header_bytes = 1000;
  Begin("/s/Unary");
  EXPECT_FALSE(stream_->OnHeader("name", std::string(1000, 'x')));
  account_ = std::make_shared<MemoryAccount>(nullptr, 1000);
  EXPECT_EQ(Begin("/s/Unary", {{"name", std::string(500, 'x')}})->end_code(), kResourceExhausted);
}

}  // namespace
}  // namespace tfipu::serving::net::http2
