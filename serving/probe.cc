#include "serving/probe.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "cc/base/status_macros.h"

namespace tfipu::serving {
namespace {

using Clock = std::chrono::steady_clock;

// HTTP/2 (RFC 9113): types and flags of frames.
enum FrameType : std::uint8_t { kData = 0, kHeaders = 1, kResetStream = 3, kSettings = 4, kGoAway = 7 };
constexpr std::uint8_t kEndStream = 0x1, kAck = 0x1, kEndHeaders = 0x4, kPadded = 0x8;
constexpr std::size_t kFrameHeaderSize = 9, kMaxFrameSize = 16384, kGrpcPrefixSize = 5;
constexpr std::uint32_t kStream = 1;

struct Frame {
  std::uint8_t type = 0, flags = 0;
  std::uint32_t stream = 0;
  std::string payload;
};

struct Target {
  std::string host, port, socket_path, model;
};

absl::StatusOr<Target> ParseTarget(absl::string_view text) {
  Target target;
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    target.socket_path = std::string(rest);
    if (!rest.empty() && rest.size() < sizeof(sockaddr_un{}.sun_path)) return target;
  } else {
    const std::size_t slash = rest.find('/');
    if (slash != absl::string_view::npos) target.model = std::string(rest.substr(slash + 1));
    rest = rest.substr(0, slash);
    const std::size_t colon = rest.rfind(':');
    if (colon != absl::string_view::npos && colon + 1 < rest.size()) {
      absl::string_view host = rest.substr(0, colon);
      if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
      target.host = host.empty() ? "localhost" : std::string(host);
      target.port = std::string(rest.substr(colon + 1));
      return target;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--probe: found \"", text, "\", expected host:port, host:port/model or unix:/path."));
}

// A socket whose every wait ends at the deadline.
class Connection {
 public:
  explicit Connection(Clock::time_point deadline) : deadline_(deadline) {}
  ~Connection() {
    if (socket_ >= 0) close(socket_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  absl::Status Open(const Target& target) {
    if (!target.socket_path.empty()) {
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      std::memcpy(address.sun_path, target.socket_path.data(), target.socket_path.size());
      return Connect(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    }
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (const int error = getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &found); error != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("--probe: \"", target.host, ":", target.port, "\": ", gai_strerror(error)));
    }
    absl::Status status = absl::UnavailableError("no address");
    for (const addrinfo* one = found; one != nullptr && !status.ok(); one = one->ai_next) {
      status = Connect(one->ai_family, one->ai_addr, one->ai_addrlen);
    }
    freeaddrinfo(found);
    return status;
  }

  absl::Status Send(absl::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(sent));
      } else if (errno != EINTR) {
        TFIPU_RETURN_IF_ERROR(WaitFor(POLLOUT, "sending"));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Receive(std::size_t size) {
    std::string bytes(size, '\0');
    for (std::size_t done = 0; done < size;) {
      const ssize_t received = recv(socket_, &bytes[done], size - done, 0);
      if (received == 0)
        return absl::UnavailableError("it closed the connection: is it a gRPC port without TLS?");
      if (received > 0) {
        done += static_cast<std::size_t>(received);
      } else if (errno != EINTR) {
        TFIPU_RETURN_IF_ERROR(WaitFor(POLLIN, "receiving"));
      }
    }
    return bytes;
  }

 private:
  absl::Status Connect(int family, const sockaddr* address, socklen_t size) {
    if (socket_ >= 0) close(socket_);
    socket_ = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (socket_ < 0) return absl::UnavailableError(std::strerror(errno));
    if (connect(socket_, address, size) == 0) return absl::OkStatus();
    TFIPU_RETURN_IF_ERROR(WaitFor(POLLOUT, "connecting"));
    int error = 0;
    socklen_t length = sizeof(error);
    getsockopt(socket_, SOL_SOCKET, SO_ERROR, &error, &length);
    return error == 0 ? absl::OkStatus() : absl::UnavailableError(std::strerror(error));
  }

  // After a call that failed with errno.
  absl::Status WaitFor(short events, absl::string_view what) {
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINPROGRESS) {
      return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
    }
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Clock::now());
      pollfd poll_socket{socket_, events, 0};
      const int ready = left.count() <= 0 ? 0 : poll(&poll_socket, 1, static_cast<int>(left.count()));
      if (ready > 0) return absl::OkStatus();
      if (ready == 0) return absl::DeadlineExceededError(absl::StrCat(what, ": no answer in time"));
      if (errno != EINTR) return absl::UnavailableError(std::strerror(errno));
    }
  }

  const Clock::time_point deadline_;
  int socket_ = -1;
};

std::string FrameBytes(FrameType type, std::uint8_t flags, std::uint32_t stream, absl::string_view payload) {
  std::string bytes;
  for (const int shift : {16, 8, 0}) bytes.push_back(static_cast<char>(payload.size() >> shift));
  bytes.push_back(static_cast<char>(type));
  bytes.push_back(static_cast<char>(flags));
  for (const int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<char>(stream >> shift));
  return absl::StrCat(bytes, payload);
}

// A string of HPACK (RFC 7541) shorter than 127 bytes, without Huffman's code.
std::string HpackString(absl::string_view text) {
  return absl::StrCat(std::string(1, static_cast<char>(text.size())), text);
}

std::string Varint(std::size_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

std::string RequestBytes(absl::string_view model) {
  // Indices into HPACK's static table: 3 ":method: POST", 6 ":scheme: http", 4 ":path", 1 ":authority", 31
  // "content-type" (16 over a prefix of four bits).
  const std::string headers =
      absl::StrCat("\x83\x86\x04", HpackString("/grpc.health.v1.Health/Check"), "\x01",
                   HpackString("localhost"), "\x0f\x10", HpackString("application/grpc"),
                   std::string(1, '\0'), HpackString("te"), HpackString("trailers"));
  const std::string message = model.empty() ? "" : absl::StrCat("\x0a", Varint(model.size()), model);
  std::string body(1, '\0');
  for (const int shift : {24, 16, 8, 0}) body.push_back(static_cast<char>(message.size() >> shift));
  absl::StrAppend(&body, message);
  return absl::StrCat("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FrameBytes(kSettings, 0, 0, ""),
                      FrameBytes(kHeaders, kEndHeaders, kStream, headers),
                      FrameBytes(kData, kEndStream, kStream, body));
}

absl::StatusOr<Frame> ReadFrame(Connection& connection) {
  TFIPU_ASSIGN_OR_RETURN(const std::string header, connection.Receive(kFrameHeaderSize));
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint32_t>(static_cast<std::uint8_t>(header[i]));
  };
  const std::size_t size = byte(0) << 16 | byte(1) << 8 | byte(2);
  if (size > kMaxFrameSize) return absl::UnavailableError("what answers does not speak gRPC without TLS");
  Frame frame;
  frame.type = static_cast<std::uint8_t>(byte(3));
  frame.flags = static_cast<std::uint8_t>(byte(4));
  frame.stream = (byte(5) << 24 | byte(6) << 16 | byte(7) << 8 | byte(8)) & 0x7fffffff;
  TFIPU_ASSIGN_OR_RETURN(frame.payload, connection.Receive(size));
  return frame;
}

// The bytes of the answer's DATA frames.
absl::StatusOr<std::string> ReadAnswer(Connection& connection) {
  std::string answer;
  for (;;) {
    TFIPU_ASSIGN_OR_RETURN(const Frame frame, ReadFrame(connection));
    if (frame.type == kGoAway) return absl::UnavailableError("it is ending, or it refused the connection");
    if (frame.type == kSettings && (frame.flags & kAck) == 0) {
      TFIPU_RETURN_IF_ERROR(connection.Send(FrameBytes(kSettings, kAck, 0, "")));
    }
    if (frame.stream != kStream) continue;
    if (frame.type == kResetStream) return absl::UnavailableError("it refused the call");
    if (frame.type == kData) {
      absl::string_view data = frame.payload;
      if ((frame.flags & kPadded) != 0 && !data.empty()) {
        const std::size_t padding = static_cast<std::uint8_t>(data[0]);
        data.remove_prefix(1);
        data.remove_suffix(std::min(padding, data.size()));
      }
      // What is longer than a health answer is none.
      absl::StrAppend(&answer, data.substr(0, kMaxFrameSize - std::min(answer.size(), kMaxFrameSize)));
    }
    if ((frame.type == kData || frame.type == kHeaders) && (frame.flags & kEndStream) != 0) return answer;
  }
}

absl::Status Ask(Connection& connection, const Target& target) {
  TFIPU_RETURN_IF_ERROR(connection.Open(target));
  TFIPU_RETURN_IF_ERROR(connection.Send(RequestBytes(target.model)));
  TFIPU_ASSIGN_OR_RETURN(const std::string answer, ReadAnswer(connection));
  // HealthCheckResponse { status = 1: SERVING }.
  if (absl::EndsWith(answer, "\x08\x01") && answer.size() == kGrpcPrefixSize + 2) return absl::OkStatus();
  if (answer.empty()) {
    return absl::UnavailableError(target.model.empty()
                                      ? "it has no health service (--noenable_grpc_healthcheck_service)"
                                      : absl::StrCat("it knows no model \"", target.model, "\""));
  }
  return absl::UnavailableError("not serving");
}

}  // namespace

absl::StatusOr<std::string> ProbeTarget(const Flags& flags) {
  if (flags.probe.has_value() && !flags.probe->empty()) return *flags.probe;
  if (!flags.grpc_socket_path.empty()) return absl::StrCat("unix:", flags.grpc_socket_path);
  if (flags.port <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--probe asks over gRPC and --port is ", flags.port, "; expected --probe=host:port."));
  }
  const bool is_ipv6 = absl::StrContains(flags.bind_address, ':');
  const std::string host = flags.bind_address.empty() ? "localhost" : flags.bind_address;
  return is_ipv6 ? absl::StrCat("[", host, "]:", flags.port) : absl::StrCat(host, ":", flags.port);
}

absl::Status Probe(absl::string_view target, std::chrono::milliseconds timeout) {
  TFIPU_ASSIGN_OR_RETURN(const Target parsed, ParseTarget(target));
  Connection connection(Clock::now() + timeout);
  const absl::Status status = Ask(connection, parsed);
  if (status.ok() || absl::IsInvalidArgument(status)) return status;
  return absl::Status(status.code(),
                      absl::StrCat("The server at ", target, " is not healthy: ", status.message()));
}

}  // namespace tfipu::serving
