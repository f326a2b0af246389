#include "serving/probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu::serving {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr milliseconds kTimeout{60'000};

// Takes one connection, sends what it is told to, one byte at a time, and closes when the client has.
class FakeServer {
 public:
  explicit FakeServer(std::string answer) : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 1), 0);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, answer = std::move(answer)] {
      const int connection = accept(listener_, nullptr, nullptr);
      for (const char byte : answer) send(connection, &byte, 1, MSG_NOSIGNAL);
      if (!answer.empty()) shutdown(connection, SHUT_WR);
      char buffer[4096];
      while (recv(connection, buffer, sizeof(buffer), 0) > 0) {
      }
      close(connection);
    });
  }
  ~FakeServer() {
    thread_.join();
    close(listener_);
  }
  std::string target() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  const int listener_;
  int port_ = 0;
  std::thread thread_;
};

std::string Frame(char type, char flags, const std::string& payload) {
  std::string bytes{0, 0, static_cast<char>(payload.size()), type, flags, 0, 0, 0, type == 4 ? '\0' : '\1'};
  return bytes + payload;
}

const std::string kSettings = Frame(4, 0, "");
const std::string kHeaders = Frame(1, 4, "\x88");
const std::string kTrailers = Frame(1, 5, "\x88");

std::string Health(char status) { return std::string{0, 0, 0, 0, 2, 8, status}; }

absl::Status ProbeOf(const std::string& answer, milliseconds timeout = kTimeout) {
  const FakeServer server(answer);
  return Probe(server.target(), timeout);
}

TEST(ProbeTest, ServingIsHealthy) {
  EXPECT_EQ(ProbeOf(kSettings + kHeaders + Frame(0, 0, Health(1)) + kTrailers), absl::OkStatus());
}

TEST(ProbeTest, AnAnswerInPaddedPartsIsPutTogether) {
  const std::string health = Health(1);
  const std::string padded = std::string{3} + health.substr(0, 2) + std::string(3, '\0');
  EXPECT_EQ(ProbeOf(kSettings + kHeaders + Frame(0, 8, padded) + Frame(0, 1, health.substr(2))),
            absl::OkStatus());
}

TEST(ProbeTest, WhatDoesNotServeIsUnavailable) {
  for (const std::string& answer : {
           kSettings + kHeaders + Frame(0, 1, Health(2)),         // NOT_SERVING
           kSettings + kHeaders + Frame(0, 1, Health(0)),         // UNKNOWN
           kSettings + kTrailers,                                 // an error, without a message
           kSettings + Frame(3, 0, std::string(4, '\1')),         // RST_STREAM
           kSettings + Frame(7, 0, std::string(8, '\0')),         // GOAWAY
           kSettings + kHeaders + Frame(0, 0, Health(1)),         // ends in the middle
           kSettings + kHeaders + Frame(0, 9, std::string{100}),  // more padding than there is
           std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), std::string("\x15\x03\x03\0\2\2\x28", 7),  // TLS
       }) {
    const absl::Status status = ProbeOf(answer);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("is not healthy: "));
  }
}

TEST(ProbeTest, AServerThatIsSilentIsNotWaitedFor) {
  EXPECT_EQ(ProbeOf("", milliseconds(20)).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(ProbeTest, NobodyListens) {
  std::string target;
  {
    const FakeServer server("x");
    target = server.target();
    EXPECT_FALSE(Probe(target, kTimeout).ok());
  }
  const absl::Status status = Probe(target, kTimeout);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_EQ(Probe("unix:/does/not/exist", kTimeout).code(), absl::StatusCode::kUnavailable);
}

TEST(ProbeTest, WhatIsNotATargetIsNamed) {
  for (const char* const target : {"", "localhost", "localhost:", "unix:", "/model", "127.0.0.1:port"}) {
    const absl::Status status = Probe(target, kTimeout);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << target << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("--probe"));
  }
}

TEST(ProbeTest, WithoutAValueTheOtherFlagsSayWhomToAsk) {
  Flags flags;
  flags.probe = "";
  EXPECT_EQ(*ProbeTarget(flags), "localhost:8500");
  flags.port = 7;
  flags.bind_address = "::1";
  EXPECT_EQ(*ProbeTarget(flags), "[::1]:7");
  flags.grpc_socket_path = "/run/socket";
  EXPECT_EQ(*ProbeTarget(flags), "unix:/run/socket");
  flags.probe = "other:1";
  EXPECT_EQ(*ProbeTarget(flags), "other:1");
  Flags off;
  off.probe = "";
  off.port = 0;
  EXPECT_EQ(ProbeTarget(off).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tfipu::serving
