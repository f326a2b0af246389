// Loads a gRPC server with one unary call over and over, and prints how fast it answers and what that costs
// it.
//
//   grpc_load --port=8500 --request=predict.bin [--path=/tensorflow.serving.PredictionService/Predict]
//             [--host=127.0.0.1] [--connections=1] [--in_flight=1 | --rate=CALLS_A_SECOND] [--seconds=2]
//             [--pid=SERVER] [--calls=FILE]
//
// The request file holds the serialised request message. Closed loop: `in_flight` calls in all are spread
// over the connections, and each answer makes the next call. Open loop: calls are due by a Poisson process
// whatever has been answered, and a call's latency counts from when it was due, so that a slow server cannot
// hide by being asked less; all of them are waited for. --calls writes a line for each call, when it was
// answered in microseconds of the monotonic clock, and its latency. With --pid the server's CPU time is read
// from /proc. Prints one line of JSON: requests, errors, requests per second, latencies in microseconds, and
// with --pid the server's CPU microseconds per request and requests per CPU-second.
//
// It speaks HTTP/2 by itself, in one thread and with nothing decoded that need not be, to cost far less than
// the server under load on the same machine. Frames are what a gRPC library sends: headers by index into the
// dynamic table after the first call.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string host = "127.0.0.1";
  int port = 8500;
  std::string path = "/tensorflow.serving.PredictionService/Predict";
  std::string request;
  int connections = 1;
  int in_flight = 1;
  double rate = 0;
  double seconds = 2;
  int pid = 0;
  std::string calls;
};

struct Results {
  std::vector<std::uint32_t> latencies_us;
  std::vector<std::int64_t> answered_us;
  long errors = 0;
};

enum FrameType : std::uint8_t {
  kData = 0,
  kHeaders = 1,
  kReset = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kWindowUpdate = 8,
  kContinuation = 9
};
constexpr std::uint8_t kEndStream = 1, kAck = 1, kEndHeaders = 4;
constexpr std::size_t kMaxFrame = 16384;

[[noreturn]] void Die(const std::string& what) {
  std::cerr << "grpc_load: " << what << "\n";
  std::exit(1);
}

void PutHead(std::string* out, std::size_t length, std::uint8_t type, std::uint8_t flags,
             std::uint32_t stream) {
  const char head[9] = {
      static_cast<char>(length >> 16), static_cast<char>(length >> 8), static_cast<char>(length),
      static_cast<char>(type),         static_cast<char>(flags),       static_cast<char>(stream >> 24),
      static_cast<char>(stream >> 16), static_cast<char>(stream >> 8), static_cast<char>(stream)};
  out->append(head, sizeof(head));
}
void Put32(std::string* out, std::uint32_t value) {
  const char bytes[4] = {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
                         static_cast<char>(value >> 8), static_cast<char>(value)};
  out->append(bytes, sizeof(bytes));
}
std::uint32_t Get32(const unsigned char* bytes) {
  return std::uint32_t{bytes[0]} << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
}

// HPACK: a literal that enters the dynamic table. `name_index` is the static table's, or 0 for a new name.
void PutLiteral(std::string* out, int name_index, const std::string& name, const std::string& value) {
  out->push_back(static_cast<char>(0x40 | name_index));
  if (name_index == 0) {
    out->push_back(static_cast<char>(name.size()));
    *out += name;
  }
  if (value.size() > 126) Die("header value too long");
  out->push_back(static_cast<char>(value.size()));
  *out += value;
}

class Connection {
 public:
  Connection(const Options& options, const std::string& message, int calls, Results* results)
      : message_(message), results_(results), wanted_calls_(calls) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options.port);
    if (inet_pton(AF_INET, options.host.c_str(), &address.sin_addr) != 1)
      Die("--host must be an IPv4 address");
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      Die(std::string("cannot connect: ") + std::strerror(errno));
    }
    int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(fd_, F_SETFL, O_NONBLOCK);

    first_headers_ = "\x83\x86";
    PutLiteral(&first_headers_, 4, "", options.path);
    PutLiteral(&first_headers_, 1, "", options.host + ":" + std::to_string(options.port));
    PutLiteral(&first_headers_, 0, "te", "trailers");
    PutLiteral(&first_headers_, 31, "", "application/grpc");
    PutLiteral(&first_headers_, 58, "", "grpc_load");
    PutLiteral(&first_headers_, 0, "grpc-accept-encoding", "identity, deflate, gzip");
    // Newest entries first: path is the sixth from the newest, at 61 + 6.
    later_headers_ = "\x83\x86\xc3\xc2\xc1\xc0\xbf\xbe";

    out_ = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    PutHead(&out_, 12, kSettings, 0, 0);
    out_ += std::string("\0\x04", 2);  // initial window size
    Put32(&out_, 0x7fffffff);
    out_ += std::string("\0\x02", 2);  // no server push
    Put32(&out_, 0);
    PutHead(&out_, 4, kWindowUpdate, 0, 0);
    Put32(&out_, 0x7fff0000 - 65535);
    Flush();
  }
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd() const { return fd_; }
  bool wants_write() const { return !out_.empty(); }
  std::size_t open_calls() const { return calls_.size(); }
  bool watched_for_write = false;  // by the epoll that owns the connection
  // No new calls from now on.
  void Drain() { draining_ = true; }
  bool has_room() const { return settled_ && calls_.size() < max_streams_; }
  // One more call, which has been due since then. There is room.
  void Start(Clock::time_point due) {
    StartCall(due);
    Flush();
  }

  void OnReadable() {
    while (true) {
      const std::size_t had = in_.size();
      in_.resize(had + (1 << 18));
      const ssize_t got = recv(fd_, in_.data() + had, in_.size() - had, 0);
      in_.resize(had + std::max<ssize_t>(got, 0));
      if (got == 0) Die("the server closed the connection");
      if (got < 0) {
        if (errno == EAGAIN) break;
        Die(std::string("recv: ") + std::strerror(errno));
      }
      if (got < (1 << 18)) break;
    }
    std::size_t at = 0;
    while (in_.size() - at >= 9) {
      const auto* head = reinterpret_cast<const unsigned char*>(in_.data() + at);
      const std::size_t length = std::size_t{head[0]} << 16 | head[1] << 8 | head[2];
      if (in_.size() - at < 9 + length) break;
      OnFrame(head[3], head[4], Get32(head + 5) & 0x7fffffff, head + 9, length);
      at += 9 + length;
    }
    in_.erase(0, at);
    StartCalls();
    Flush();
  }

  void Flush() {
    while (!out_.empty()) {
      const ssize_t sent = send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EAGAIN) return;
        Die(std::string("send: ") + std::strerror(errno));
      }
      out_.erase(0, sent);
    }
  }

 private:
  struct Call {
    Clock::time_point started;
    std::int64_t window;
    std::size_t sent = 0;
    bool has_data = false;
  };

  void OnFrame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, const unsigned char* data,
               std::size_t length) {
    switch (type) {
      case kSettings:
        if (flags & kAck) break;
        for (std::size_t i = 0; i + 6 <= length; i += 6) {
          if (data[i] == 0 && data[i + 1] == 4) {
            const std::int64_t window = Get32(data + i + 2);
            for (auto& [id, call] : calls_) call.window += window - initial_window_;
            initial_window_ = window;
          }
          if (data[i] == 0 && data[i + 1] == 3) max_streams_ = Get32(data + i + 2);
        }
        PutHead(&out_, 0, kSettings, kAck, 0);
        settled_ = true;
        break;
      case kPing:
        if (flags & kAck) break;
        PutHead(&out_, length, kPing, kAck, 0);
        out_.append(reinterpret_cast<const char*>(data), length);
        break;
      case kWindowUpdate:
        if (stream == 0) {
          window_ += Get32(data);
        } else if (auto call = calls_.find(stream); call != calls_.end()) {
          call->second.window += Get32(data);
        }
        SendWaiting();
        break;
      case kData: {
        received_ += length;
        if (received_ > (1 << 24)) {
          PutHead(&out_, 4, kWindowUpdate, 0, 0);
          Put32(&out_, static_cast<std::uint32_t>(received_));
          received_ = 0;
        }
        auto call = calls_.find(stream);
        if (call != calls_.end()) call->second.has_data = true;
        if (flags & kEndStream) End(stream, false);
        break;
      }
      case kHeaders:
        // Headers that end the stream without data before them carry an error.
        if (flags & kEndStream) {
          auto call = calls_.find(stream);
          End(stream, call != calls_.end() && call->second.has_data);
        }
        break;
      case kReset:
        End(stream, false);
        break;
      case kGoAway:
        Die("the server sent GOAWAY");
      default:
        break;
    }
  }

  void End(std::uint32_t stream, bool ok) {
    auto call = calls_.find(stream);
    if (call == calls_.end()) return;
    using std::chrono::microseconds;
    const Clock::time_point now = Clock::now();
    const auto took = std::chrono::duration_cast<microseconds>(now - call->second.started);
    calls_.erase(call);
    if (ok) {
      results_->latencies_us.push_back(static_cast<std::uint32_t>(took.count()));
      results_->answered_us.push_back(
          std::chrono::duration_cast<microseconds>(now.time_since_epoch()).count());
    } else {
      ++results_->errors;
    }
  }

  void StartCalls() {
    if (!settled_) return;
    while (!draining_ && calls_.size() < static_cast<std::size_t>(wanted_calls_) &&
           calls_.size() < max_streams_) {
      StartCall(Clock::now());
    }
  }

  void StartCall(Clock::time_point started) {
    const std::uint32_t stream = next_stream_;
    next_stream_ += 2;
    const std::string& headers = stream == 1 ? first_headers_ : later_headers_;
    PutHead(&out_, headers.size(), kHeaders, kEndHeaders, stream);
    out_ += headers;
    Call& call = calls_[stream];
    call.started = started;
    call.window = initial_window_;
    if (!SendMessage(stream, &call)) waiting_.push_back(stream);
  }

  // Sends what the windows allow. Whether that was all.
  bool SendMessage(std::uint32_t stream, Call* call) {
    while (call->sent < message_.size()) {
      const std::int64_t allowed = std::min(window_, call->window);
      if (allowed <= 0) return false;
      const std::size_t size =
          std::min({message_.size() - call->sent, kMaxFrame, static_cast<std::size_t>(allowed)});
      const bool last = call->sent + size == message_.size();
      PutHead(&out_, size, kData, last ? kEndStream : 0, stream);
      out_.append(message_, call->sent, size);
      call->sent += size;
      call->window -= size;
      window_ -= size;
    }
    return true;
  }

  void SendWaiting() {
    for (std::size_t left = waiting_.size(); left > 0; --left) {
      const std::uint32_t stream = waiting_.front();
      waiting_.pop_front();
      auto call = calls_.find(stream);
      if (call != calls_.end() && !SendMessage(stream, &call->second)) waiting_.push_back(stream);
    }
  }

  const std::string& message_;
  Results* const results_;
  const int wanted_calls_;
  int fd_ = -1;
  std::string first_headers_, later_headers_;
  std::string in_, out_;
  bool settled_ = false;
  bool draining_ = false;
  std::uint32_t next_stream_ = 1;
  std::uint32_t max_streams_ = 100;
  std::int64_t window_ = 65535;
  std::int64_t initial_window_ = 65535;
  std::size_t received_ = 0;
  std::unordered_map<std::uint32_t, Call> calls_;
  std::deque<std::uint32_t> waiting_;
};

// Microseconds of CPU that a process has used.
double CpuMicros(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) Die("no process " + std::to_string(pid));
  // Fields 14 and 15; field 3 follows the name.
  const char* at = text.c_str() + name_end + 2;
  for (int field = 3; field < 14; ++field) at = std::strchr(at, ' ') + 1;
  char* next = nullptr;
  const double user = std::strtod(at, &next);
  const double system = std::strtod(next, nullptr);
  return (user + system) * 1e6 / sysconf(_SC_CLK_TCK);
}

using Connections = std::vector<std::unique_ptr<Connection>>;

void WatchForWrite(int epoll, Connection* connection) {
  if (connection->wants_write() == connection->watched_for_write) return;
  connection->watched_for_write = connection->wants_write();
  epoll_event event{connection->watched_for_write ? EPOLLIN | EPOLLOUT : EPOLLIN, {.ptr = connection}};
  epoll_ctl(epoll, EPOLL_CTL_MOD, connection->fd(), &event);
}

// Waits for events no longer than that, and handles them.
void PumpOnce(int epoll, std::chrono::nanoseconds longest) {
  epoll_event events[64];
  const timespec timeout{longest.count() / 1000000000, longest.count() % 1000000000};
  const int ready = epoll_pwait2(epoll, events, 64, &timeout, nullptr);
  for (int i = 0; i < ready; ++i) {
    auto* connection = static_cast<Connection*>(events[i].data.ptr);
    if (events[i].events & EPOLLOUT) connection->Flush();
    if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) connection->OnReadable();
    WatchForWrite(epoll, connection);
  }
}

// Runs until `end`, or until no call is open when draining.
void Pump(int epoll, const Connections& connections, Clock::time_point end, bool until_idle) {
  while (Clock::now() < end) {
    if (until_idle && std::all_of(connections.begin(), connections.end(),
                                  [](const auto& connection) { return connection->open_calls() == 0; })) {
      return;
    }
    PumpOnce(epoll, std::chrono::milliseconds(100));
  }
}

// Makes calls at that rate until `end`, and waits until all have been sent.
void PumpOpenLoop(int epoll, const Connections& connections, double rate, Clock::time_point end) {
  std::mt19937_64 random(1);
  std::exponential_distribution<double> gap(rate);
  const auto next_gap = [&] {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(gap(random)));
  };
  std::deque<Clock::time_point> due;
  Clock::time_point next = Clock::now() + next_gap();
  while (next < end || !due.empty()) {
    const Clock::time_point now = Clock::now();
    for (; next <= now && next < end; next += next_gap()) due.push_back(next);
    while (!due.empty()) {
      Connection* least = nullptr;
      for (const auto& connection : connections) {
        if (connection->has_room() && (least == nullptr || connection->open_calls() < least->open_calls())) {
          least = connection.get();
        }
      }
      if (least == nullptr) break;
      least->Start(due.front());
      due.pop_front();
      WatchForWrite(epoll, least);
    }
    const auto until_next = std::max(next - Clock::now(), Clock::duration::zero());
    PumpOnce(epoll, due.empty() ? std::min<Clock::duration>(until_next, std::chrono::milliseconds(100))
                                : std::chrono::microseconds(100));
  }
}

Options ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    if (argument.rfind("--", 0) != 0 || equals == std::string::npos)
      Die("expected --name=value, got " + argument);
    const std::string name = argument.substr(2, equals - 2), value = argument.substr(equals + 1);
    if (name == "host")
      options.host = value;
    else if (name == "port")
      options.port = std::atoi(value.c_str());
    else if (name == "path")
      options.path = value;
    else if (name == "request")
      options.request = value;
    else if (name == "connections")
      options.connections = std::atoi(value.c_str());
    else if (name == "in_flight")
      options.in_flight = std::atoi(value.c_str());
    else if (name == "rate")
      options.rate = std::atof(value.c_str());
    else if (name == "calls")
      options.calls = value;
    else if (name == "seconds")
      options.seconds = std::atof(value.c_str());
    else if (name == "pid")
      options.pid = std::atoi(value.c_str());
    else
      Die("unknown option --" + name);
  }
  if (options.request.empty()) Die("--request is missing");
  if (options.connections < 1 || (options.rate <= 0 && options.in_flight < options.connections)) {
    Die("--in_flight must be at least --connections, and both at least 1");
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = ParseOptions(argc, argv);
  std::ifstream file(options.request, std::ios::binary);
  if (!file) Die("cannot read " + options.request);
  const std::string request((std::istreambuf_iterator<char>(file)), {});
  std::string message(1, '\0');
  Put32(&message, static_cast<std::uint32_t>(request.size()));
  message += request;

  Results results;
  const int epoll = epoll_create1(0);
  std::vector<std::unique_ptr<Connection>> connections;
  for (int i = 0; i < options.connections; ++i) {
    const int calls = options.rate > 0 ? 0
                                       : options.in_flight / options.connections +
                                             (i < options.in_flight % options.connections);
    connections.push_back(std::make_unique<Connection>(options, message, calls, &results));
    epoll_event event{EPOLLIN, {.ptr = connections.back().get()}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, connections.back()->fd(), &event);
  }
  // A quarter of a second to warm up.
  const auto warm_up_end = Clock::now() + std::chrono::milliseconds(250);
  if (options.rate > 0) {
    PumpOpenLoop(epoll, connections, options.rate, warm_up_end);
    Pump(epoll, connections, Clock::now() + std::chrono::seconds(60), true);
  } else {
    Pump(epoll, connections, warm_up_end, false);
  }
  results = Results();

  const double cpu_before = options.pid ? CpuMicros(options.pid) : 0;
  const auto started = Clock::now();
  const auto end =
      started + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.seconds));
  if (options.rate > 0) {
    PumpOpenLoop(epoll, connections, options.rate, end);
    Pump(epoll, connections, Clock::now() + std::chrono::seconds(60), true);
  } else {
    Pump(epoll, connections, end, false);
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - started).count();
  const double cpu = options.pid ? CpuMicros(options.pid) - cpu_before : 0;
  Results measured = results;
  for (auto& connection : connections) connection->Drain();
  Pump(epoll, connections, Clock::now() + std::chrono::seconds(10), true);

  if (!options.calls.empty()) {
    std::ofstream calls(options.calls);
    for (std::size_t i = 0; i < measured.latencies_us.size(); ++i) {
      calls << measured.answered_us[i] << ' ' << measured.latencies_us[i] << '\n';
    }
    if (!calls.flush()) Die("cannot write " + options.calls);
  }
  std::sort(measured.latencies_us.begin(), measured.latencies_us.end());
  const std::size_t count = measured.latencies_us.size();
  auto percentile = [&](double p) {
    return count == 0 ? 0 : measured.latencies_us[std::min(count - 1, static_cast<std::size_t>(p * count))];
  };
  std::printf("{\"requests\": %zu, \"errors\": %ld, \"rps\": %.0f, \"p50_us\": %u, \"p99_us\": %u", count,
              measured.errors, count / seconds, percentile(0.5), percentile(0.99));
  if (options.pid) {
    std::printf(", \"cpu_us\": %.2f, \"per_cpu_second\": %.0f", count ? cpu / count : 0.0,
                cpu > 0 ? count * 1e6 / cpu : 0.0);
  }
  std::printf("}\n");
  return measured.errors == 0 && count > 0 ? 0 : 2;
}
