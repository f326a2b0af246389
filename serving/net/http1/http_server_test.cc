#include "serving/net/http1/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "serving/net/deflate.h"

namespace tfipu::serving::net::http1 {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

bool Gzip(const std::string& plain, std::string* out) {
  Buffer packed;
  if (!DeflateIfSmaller(DeflateFormat::kGzip, 1, plain, 0, &packed)) return false;
  *out = packed.view();
  return true;
}

struct Answer {
  int status = 0;
  std::string head;
  std::string body;

  std::string Field(const std::string& name) const {
    const std::size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    const std::size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

// A client that writes and reads bytes, and waits at most a minute for any.
class Client {
 public:
  explicit Client(int port, int receive_buffer = 0) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer > 0) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    timeval patience{60, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { close(fd_); }
  Client(const Client&) = delete;

  bool connected() const { return connected_; }

  void Send(const std::string& text) {
    std::size_t sent = 0;
    while (sent < text.size()) {
      const long n = send(fd_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<std::size_t>(n);
    }
  }
  void SendEnd() { shutdown(fd_, SHUT_WR); }

  bool More() {
    char data[65536];
    const long n = recv(fd_, data, sizeof(data), 0);
    if (n < 0 && errno == EAGAIN) ADD_FAILURE() << "The server said nothing for a minute";
    if (n <= 0) return false;
    read_.append(data, static_cast<std::size_t>(n));
    return true;
  }

  // The next answer; status 0 when the connection ends before it is whole.
  Answer Read(bool head_only = false) {
    Answer answer;
    std::size_t end;
    while ((end = read_.find("\r\n\r\n")) == std::string::npos) {
      if (!More()) return answer;
    }
    answer.head = read_.substr(0, end + 2);
    read_.erase(0, end + 4);
    const int status = std::atoi(answer.head.c_str() + 9);
    const std::size_t size =
        head_only || status == 100 ? 0 : std::strtoull(answer.Field("Content-Length").c_str(), nullptr, 10);
    while (read_.size() < size) {
      if (!More()) return answer;
    }
    answer.body = read_.substr(0, size);
    read_.erase(0, size);
    answer.status = status;
    return answer;
  }

  // Whether the other side closes and sends nothing before.
  bool Ends() { return read_.empty() && !More(); }

  Answer Ask(const std::string& text) {
    Send(text);
    return Read();
  }

 private:
  int fd_;
  bool connected_;
  std::string read_;
};

std::string Post(const std::string& target, const std::string& body, const std::string& fields = "") {
  return "POST " + target + " HTTP/1.1\r\nHost: x\r\n" + fields +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

// Answers with method, target and body; "/later" from another thread.
class HttpServerTest : public testing::Test {
 protected:
  HttpServerTest() {
    options_.address = "127.0.0.1";
    options_.own_threads = 2;
  }
  ~HttpServerTest() override {
    server_.reset();
    for (std::thread& thread : threads_) thread.join();
  }

  void Start() {
    server_ = std::make_unique<HttpServer>(options_, [this](HttpExchange* exchange) { Handle(exchange); });
    std::string error;
    ASSERT_TRUE(server_->Start(&error)) << error;
    ASSERT_GT(server_->port(), 0);
  }

  void Handle(HttpExchange* exchange) {
    ++handled_;
    const std::string target(exchange->target());
    if (target == "/hold") {
      std::lock_guard<std::mutex> lock(mutex_);
      held_.push_back(exchange);
      changed_.notify_all();
      return;
    }
    if (target == "/large")
      return exchange->Respond(200, {{"Content-Type", "text/plain"}}, std::string(20 << 20, 'z'));
    std::string text = std::string(exchange->method()) + " " + target + " " + std::string(exchange->body());
    if (target == "/later") {
      std::lock_guard<std::mutex> lock(mutex_);
      threads_.emplace_back([exchange, text] { exchange->Respond(200, {}, text); });
      return;
    }
    exchange->Respond(200, {{"Content-Type", "text/plain"}}, std::move(text));
  }

  HttpExchange* TakeHeld() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !held_.empty(); });
    HttpExchange* exchange = held_.back();
    held_.pop_back();
    return exchange;
  }

  HttpServerOptions options_;
  std::unique_ptr<HttpServer> server_;
  std::atomic<int> handled_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<HttpExchange*> held_;
  std::vector<std::thread> threads_;
};

TEST_F(HttpServerTest, KeepsConnectionsAlive) {
  Start();
  Client client(server_->port());
  for (int i = 0; i < 100; ++i) {
    const Answer answer = client.Ask(Post("/a?b=c", "body " + std::to_string(i)));
    ASSERT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "POST /a?b=c body " + std::to_string(i));
    EXPECT_EQ(answer.Field("Content-Type"), "text/plain");
    EXPECT_THAT(answer.Field("Date"), HasSubstr("GMT"));
    EXPECT_EQ(answer.Field("Connection"), "");
  }
}

TEST_F(HttpServerTest, AnswersFromOtherThreads) {
  Start();
  Client client(server_->port());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.Ask(Post("/later", "x")).body, "POST /later x");
}

TEST_F(HttpServerTest, Pipelining) {
  Start();
  Client client(server_->port());
  std::string all;
  for (int i = 0; i < 200; ++i) all += Post(i % 3 == 0 ? "/later" : "/now", std::to_string(i));
  client.Send(all);
  client.SendEnd();  // what came before the end is answered still
  for (int i = 0; i < 200; ++i) {
    const Answer answer = client.Read();
    ASSERT_EQ(answer.status, 200) << i;
    EXPECT_EQ(answer.body, std::string("POST ") + (i % 3 == 0 ? "/later " : "/now ") + std::to_string(i));
  }
  EXPECT_TRUE(client.Ends());
}

TEST_F(HttpServerTest, ByteByByte) {
  Start();
  Client client(server_->port());
  for (const char c :
       "\r\n" + Post("/slow", "body") +
           "POST /chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n") {
    client.Send(std::string(1, c));
  }
  EXPECT_EQ(client.Read().body, "POST /slow body");
  EXPECT_EQ(client.Read().body, "POST /chunks abc");
}

TEST_F(HttpServerTest, LargeBodies) {
  Start();
  Client client(server_->port());
  std::string body(5 << 20, ' ');
  for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>('a' + i % 23);
  EXPECT_EQ(client.Ask(Post("/large-body", body)).body, "POST /large-body " + body);
  std::string chunks = "POST /chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (std::size_t i = 0; i < body.size(); i += 100000) {
    const std::string chunk = body.substr(i, 100000);
    char size[20];
    std::snprintf(size, sizeof(size), "%zx\r\n", chunk.size());
    chunks += size + chunk + "\r\n";
  }
  EXPECT_EQ(client.Ask(chunks + "0\r\n\r\n").body, "POST /chunks " + body);
  EXPECT_EQ(client.Ask(Post("/after", "")).body, "POST /after ");
}

TEST_F(HttpServerTest, LargeAnswersToSlowReaders) {
  Start();
  Client client(server_->port(), 4096);
  client.Send("GET /large HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.Read().body.size(), 20 << 20);
  EXPECT_EQ(client.Read().body, "GET /next ");
}

TEST_F(HttpServerTest, Head) {
  Start();
  Client client(server_->port());
  client.Send("HEAD /large HTTP/1.1\r\nHost: x\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n");
  const Answer answer = client.Read(true);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.Field("Content-Length"), std::to_string(20 << 20));
  EXPECT_EQ(client.Read().body, "GET /x ");
}

TEST_F(HttpServerTest, Http10) {
  Start();
  Client once(server_->port());
  EXPECT_EQ(once.Ask("GET /x HTTP/1.0\r\n\r\n").Field("Connection"), "close");
  EXPECT_TRUE(once.Ends());
  Client alive(server_->port());
  EXPECT_EQ(alive.Ask("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").Field("Connection"), "keep-alive");
  EXPECT_EQ(alive.Ask("GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").Field("Connection"),
            "close");
  EXPECT_TRUE(alive.Ends());
}

TEST_F(HttpServerTest, ExpectContinue) {
  Start();
  Client client(server_->port());
  client.Send("POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n");
  EXPECT_EQ(client.Read().status, 100);
  EXPECT_EQ(client.Ask("body").body, "POST /x body");
  // Nobody has to be asked for what is there already.
  EXPECT_EQ(
      client.Ask("POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody").body,
      "POST /x body");
  EXPECT_EQ(
      client.Ask("POST /x HTTP/1.1\r\nHost: x\r\nExpect: something\r\nContent-Length: 4\r\n\r\n").status,
      417);
}

TEST_F(HttpServerTest, RefusesMalformedRequests) {
  Start();
  const std::vector<std::pair<std::string, int>> cases = {
      {"garbage\r\n\r\n", 400},
      {"GET /\r\n\r\n", 505},
      {"GET / HTTP/2.0\r\n\r\n", 505},
      {"GET / HTTP/1.1\r\nbad field\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\na: b\nc: d\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nA: b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400},
      {"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n", 501},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx", 415},
      {"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 400},
  };
  for (const auto& [text, status] : cases) {
    Client client(server_->port());
    const Answer answer = client.Ask(text);
    EXPECT_TRUE(answer.status == status || (status == 505 && answer.status == 400)) << text << answer.status;
    EXPECT_THAT(answer.body, HasSubstr("{\"error\": \"")) << text;
    EXPECT_EQ(answer.Field("Connection"), "close") << text;
  }
  EXPECT_EQ(handled_, 0);
}

TEST_F(HttpServerTest, BoundsHeaders) {
  options_.max_header_bytes = 4096;
  Start();
  Client fits(server_->port());
  EXPECT_EQ(fits.Ask("GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(3000, 'x') + "\r\n\r\n").status, 200);
  Client field(server_->port());
  EXPECT_EQ(field.Ask("GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(100000, 'x') + "\r\n\r\n").status,
            431);
  Client target(server_->port());
  EXPECT_EQ(target.Ask("GET /" + std::string(100000, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n").status, 431);
  Client many(server_->port());
  std::string fields;
  for (int i = 0; i < 10000; ++i) fields += "A: b\r\n";
  EXPECT_EQ(many.Ask("GET / HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n").status, 431);
  EXPECT_EQ(handled_, 1);
}

TEST_F(HttpServerTest, BoundsBodies) {
  options_.max_body_bytes = 1000;
  Start();
  Client fits(server_->port());
  EXPECT_EQ(fits.Ask(Post("/", std::string(1000, 'x'))).status, 200);
  // Refused by its header alone; and the answer arrives although the client keeps sending.
  Client announced(server_->port());
  EXPECT_EQ(announced.Ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1099511627776\r\n\r\n").status, 413);
  Client sent(server_->port());
  EXPECT_EQ(sent.Ask(Post("/", std::string(3 << 20, 'x'))).status, 413);
  Client expecting(server_->port());
  EXPECT_EQ(
      expecting.Ask("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
          .status,
      413);
  Client chunk(server_->port());
  EXPECT_EQ(chunk.Ask("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n").status,
            413);
  Client chunks(server_->port());
  std::string many = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 101; ++i) many += "a\r\n0123456789\r\n";
  EXPECT_EQ(chunks.Ask(many).status, 413);
  std::string bomb;
  ASSERT_TRUE(Gzip(std::string(100000, '0'), &bomb));
  ASSERT_LT(bomb.size(), 1000);
  Client bombing(server_->port());
  EXPECT_EQ(bombing.Ask(Post("/", bomb, "Content-Encoding: gzip\r\n")).status, 413);
  EXPECT_EQ(handled_, 1);
}

TEST_F(HttpServerTest, GzipBothWays) {
  Start();
  Client client(server_->port());
  const std::string text(5000, 't');
  std::string compressed;
  ASSERT_TRUE(Gzip(text, &compressed));
  EXPECT_EQ(client.Ask(Post("/", compressed, "Content-Encoding: gzip\r\n")).body, "POST / " + text);
  Answer answer = client.Ask(Post("/", text, "Accept-Encoding: deflate, gzip\r\n"));
  EXPECT_EQ(answer.Field("Content-Encoding"), "gzip");
  Buffer plain;
  ASSERT_EQ(Inflater(DeflateFormat::kGzip, answer.body, 100000, &plain).Run(1 << 20),
            Inflater::Result::kDone);
  EXPECT_EQ(plain.view(), "POST / " + text);
  EXPECT_EQ(client.Ask(Post("/", text)).Field("Content-Encoding"), "");
  EXPECT_EQ(client.Ask(Post("/", text, "Accept-Encoding: gzip;q=0\r\n")).Field("Content-Encoding"), "");
  answer = client.Ask(Post("/", "short", "Accept-Encoding: gzip\r\n"));
  EXPECT_EQ(answer.Field("Content-Encoding"), "");
  EXPECT_EQ(answer.body, "POST / short");
}

TEST_F(HttpServerTest, BoundsConnections) {
  options_.max_connections = 3;
  Start();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port()));
    EXPECT_EQ(clients.back()->Ask(Post("/", "x")).status, 200);
  }
  for (int i = 0; i < 10; ++i) {
    Client one_more(server_->port());
    EXPECT_EQ(one_more.Ask(Post("/", "x")).status, 503);
    EXPECT_TRUE(one_more.Ends());
  }
  EXPECT_EQ(clients[1]->Ask(Post("/", "x")).status, 200);
  clients[0].reset();
  // There is room again as soon as the server has seen the end.
  while (Client(server_->port()).Ask(Post("/", "x")).status != 200) {
  }
}

TEST_F(HttpServerTest, SlowHeadersAndBodies) {
  options_.header_timeout = milliseconds(50);
  options_.stall_timeout = milliseconds(50);
  options_.idle_timeout = milliseconds(0);
  Start();
  Client header(server_->port());
  EXPECT_EQ(header.Ask("GET / HT").status, 408);
  EXPECT_TRUE(header.Ends());
  Client body(server_->port());
  EXPECT_EQ(body.Ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc").status, 408);
  Client chunks(server_->port());
  EXPECT_EQ(chunks.Ask("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab").status,
            408);
  EXPECT_EQ(handled_, 0);
}

TEST_F(HttpServerTest, ReadersThatStop) {
  options_.stall_timeout = milliseconds(50);
  Start();
  Client client(server_->port(), 4096);
  client.Send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  while (handled_ == 0) std::this_thread::yield();
  Client other(server_->port());  // its end shows that time has passed
  other.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(other.Read().status, 408);
  EXPECT_TRUE(other.Ends());
  while (client.Read().status == 200) {
  }
}

TEST_F(HttpServerTest, IdleConnectionsEnd) {
  options_.idle_timeout = milliseconds(50);
  Start();
  Client client(server_->port());
  EXPECT_EQ(client.Ask(Post("/", "x")).status, 200);
  EXPECT_TRUE(client.Ends());
  Client silent(server_->port());
  EXPECT_TRUE(silent.Ends());
}

TEST_F(HttpServerTest, ToldWhenTheClientIsGone) {
  Start();
  auto client = std::make_unique<Client>(server_->port());
  client->Send(Post("/hold", "x"));
  HttpExchange* exchange = TakeHeld();
  EXPECT_FALSE(exchange->cancelled());
  client.reset();
  while (!exchange->cancelled()) std::this_thread::yield();
  exchange->Respond(200, {}, "nobody reads this");
  EXPECT_EQ(Client(server_->port()).Ask(Post("/", "x")).status, 200);
}

TEST_F(HttpServerTest, CallsThatTakeTooLongAreAnswered) {
  options_.call_timeout = milliseconds(20);
  Start();
  for (const std::string& body : {std::string("small"), std::string(1 << 20, 'b')}) {
    HttpExchange* exchange;
    {
      Client client(server_->port());
      client.Send(Post("/hold", body));
      exchange = TakeHeld();
      const Answer answer = client.Read();
      EXPECT_EQ(answer.status, 504);
      EXPECT_THAT(answer.body, HasSubstr("limit of 20 ms"));
      EXPECT_EQ(answer.Field("Connection"), "close");
      EXPECT_TRUE(exchange->cancelled());
    }
    // Others come and go meanwhile; the request is the handler's for as long as it likes.
    EXPECT_EQ(Client(server_->port()).Ask(Post("/", std::string(1 << 20, 'c'))).status, 200);
    EXPECT_EQ(exchange->body(), body);
    EXPECT_EQ(exchange->target(), "/hold");
    exchange->Respond(200, {}, "late");
  }
  // The answer may come before the client has closed, too.
  Client client(server_->port());
  client.Send(Post("/hold", "x"));
  HttpExchange* exchange = TakeHeld();
  EXPECT_EQ(client.Read().status, 504);
  exchange->Respond(200, {}, "late");
  EXPECT_EQ(Client(server_->port()).Ask(Post("/", "x")).status, 200);
  client.SendEnd();
  EXPECT_TRUE(client.Ends());
}

TEST_F(HttpServerTest, ShutdownWaitsForCallsThatTookTooLong) {
  options_.call_timeout = milliseconds(20);
  Start();
  Client client(server_->port());
  client.Send(Post("/hold", "x"));
  HttpExchange* exchange = TakeHeld();
  EXPECT_EQ(client.Read().status, 504);
  std::atomic<bool> ended{false};
  std::thread shutdown([&] {
    server_->Shutdown();
    ended = true;
  });
  EXPECT_TRUE(client.Ends());
  EXPECT_FALSE(ended);
  exchange->Respond(200, {}, "late");
  shutdown.join();
}

TEST_F(HttpServerTest, ShutdownAnswersWhatIsInFlight) {
  Start();
  Client idle(server_->port());
  EXPECT_EQ(idle.Ask(Post("/", "x")).status, 200);
  Client half(server_->port());
  half.Send("POST /half HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
  Client busy(server_->port());
  busy.Send(Post("/hold", "x"));
  HttpExchange* exchange = TakeHeld();
  const int port = server_->port();
  std::thread shutdown([this] { server_->Shutdown(); });
  EXPECT_TRUE(idle.Ends());
  half.Send("cd");
  Answer answer = half.Read();
  EXPECT_EQ(answer.body, "POST /half abcd");
  EXPECT_EQ(answer.Field("Connection"), "close");
  exchange->Respond(200, {}, "done");
  answer = busy.Read();
  EXPECT_EQ(answer.body, "done");
  EXPECT_EQ(answer.Field("Connection"), "close");
  EXPECT_TRUE(busy.Ends());
  shutdown.join();
  Client late(port);
  EXPECT_TRUE(!late.connected() || late.Ask(Post("/", "x")).status == 0);
  server_->Shutdown();  // again does nothing
}

TEST_F(HttpServerTest, ShutdownDropsWhatTakesTooLong) {
  options_.drain_timeout = milliseconds(50);
  Start();
  Client half(server_->port());
  half.Send("POST /half HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab");
  Client busy(server_->port());
  busy.Send(Post("/hold", "x"));
  HttpExchange* exchange = TakeHeld();
  std::thread shutdown([this] { server_->Shutdown(); });
  EXPECT_TRUE(half.Ends());
  while (!exchange->cancelled()) std::this_thread::yield();
  exchange->Respond(200, {}, "late");
  shutdown.join();
}

TEST_F(HttpServerTest, ShutdownUnderLoadLosesNoAnswer) {
  Start();
  const int port = server_->port();
  std::atomic<int> asked{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&, i] {
      while (true) {
        Client client(port);
        if (!client.connected()) return;
        while (true) {
          const std::string target = i % 2 == 0 ? "/now" : "/gone";
          const Answer answer = client.Ask(Post(target, "x"));
          // Status 0: closed while idle, which a client must expect of any server.
          if (answer.status == 0) return;
          ++asked;
          if (answer.body != "POST " + target + " x") ++wrong;
          if (answer.Field("Connection") == "close") return;
        }
      }
    });
  }
  while (asked < 500) std::this_thread::yield();
  server_->Shutdown();
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(handled_, asked);
}

TEST_F(HttpServerTest, BadAddressesAndPorts) {
  const HttpHandler handler = [](HttpExchange* exchange) { exchange->Respond(200, {}, ""); };
  HttpServerOptions options;
  options.address = "nonsense";
  std::string error;
  EXPECT_FALSE(HttpServer(options, handler).Start(&error));
  EXPECT_THAT(error, HasSubstr("nonsense"));
  options.address = "127.0.0.1";
  options.port = 65536;
  EXPECT_FALSE(HttpServer(options, handler).Start(&error));
  EXPECT_THAT(error, HasSubstr("65536"));
  Start();
  options.port = server_->port();
  HttpServer second(options, handler);
  EXPECT_FALSE(second.Start(&error));
  EXPECT_THAT(error, HasSubstr(std::to_string(options.port)));
}

TEST_F(HttpServerTest, MembersOfGzipFollowEachOther) {
  Start();
  Client client(server_->port());
  std::string first, second;
  ASSERT_TRUE(Gzip(std::string(100, 'a'), &first));
  ASSERT_TRUE(Gzip(std::string(200000, 'b'), &second));
  EXPECT_EQ(client.Ask(Post("/", first + second + first, "Content-Encoding: gzip\r\n")).body,
            "POST / " + std::string(100, 'a') + std::string(200000, 'b') + std::string(100, 'a'));
}

TEST_F(HttpServerTest, WhatConnectionsHoldIsBounded) {
  MemoryBudget budget(2 << 20);
  options_.budget = &budget;
  options_.max_connection_bytes = 1 << 20;
  Start();
  std::string bomb;
  ASSERT_TRUE(Gzip(std::string(30 << 20, '0'), &bomb));
  Client healthy(server_->port());
  for (int i = 0; i < 5; ++i) {
    Client greedy(server_->port());
    const Answer answer = greedy.Ask(Post("/", bomb, "Content-Encoding: gzip\r\n"));
    EXPECT_EQ(answer.status, 503);
    EXPECT_EQ(answer.Field("Retry-After"), "1");
    EXPECT_EQ(greedy.Ask(Post("/", "x")).status, 0);
    EXPECT_EQ(Client(server_->port()).Ask(Post("/", std::string(3 << 20, 'x'))).status, 503);
    EXPECT_EQ(Client(server_->port()).Ask("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").status, 503);
    EXPECT_EQ(healthy.Ask(Post("/", "x")).body, "POST / x");
  }
  // Several that are within their bound, but not all of them together.
  std::vector<std::unique_ptr<Client>> holders;
  std::vector<HttpExchange*> exchanges;
  int refused = 0;
  for (int i = 0; i < 4; ++i) {
    holders.push_back(std::make_unique<Client>(server_->port()));
    const int before = handled_;
    holders.back()->Send(Post("/hold", std::string(900000, 'x')));
    if (i < 2) {
      while (handled_ == before) std::this_thread::yield();
      exchanges.push_back(TakeHeld());
    } else {
      refused += holders.back()->Read().status == 503 ? 1 : 0;
    }
  }
  EXPECT_EQ(refused, 2);
  EXPECT_EQ(healthy.Ask(Post("/", std::string(10000, 'x'))).status, 200);
  for (HttpExchange* exchange : exchanges) exchange->Respond(200, {}, "held");
  for (int i = 0; i < 2; ++i) EXPECT_EQ(holders[i]->Read().body, "held");
  server_.reset();
  EXPECT_EQ(budget.usage().held, 0);
  EXPECT_LE(budget.usage().most_held, 2 << 20);
  EXPECT_GT(budget.usage().refused, 10);
}

TEST_F(HttpServerTest, HandlersThatThrowAreAnswered) {
  const HttpHandler handler = [](HttpExchange* exchange) {
    if (exchange->target() == "/throw") throw std::bad_alloc();
    exchange->Respond(200, {}, "fine");
  };
  server_ = std::make_unique<HttpServer>(options_, handler);
  std::string error;
  ASSERT_TRUE(server_->Start(&error));
  EXPECT_EQ(Client(server_->port()).Ask(Post("/throw", "x")).status, 503);
  EXPECT_EQ(Client(server_->port()).Ask(Post("/", "x")).body, "fine");
}

TEST_F(HttpServerTest, AnswersAtTheEndOfARoundGoAtOnce) {
  const HttpHandler handler = [](HttpExchange* exchange) {
    EventLoop::Current()->AtEndOfRound([exchange] { exchange->Respond(200, {}, "later"); });
  };
  server_ = std::make_unique<HttpServer>(options_, handler);
  std::string error;
  ASSERT_TRUE(server_->Start(&error));
  Client client(server_->port());
  client.Send(Post("/1", "") + Post("/2", "") + Post("/3", ""));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.Read().body, "later");
}

TEST_F(HttpServerTest, GarbageNeitherCrashesNorLeaks) {
  options_.header_timeout = milliseconds(200);
  Start();
  unsigned seed = 1;
  for (int i = 0; i < 300; ++i) {
    Client client(server_->port());
    std::string text = i % 2 == 0 ? "" : Post("/", "body");
    for (int k = 0; k < 50; ++k) {
      seed = seed * 1103515245 + 12345;
      const char c = static_cast<char>(seed >> 16);
      if (text.empty() || i % 2 == 0) {
        text += c;
      } else {
        if (k < 3) text[(seed >> 8) % text.size()] = c;
      }
    }
    client.Send(text);
    client.SendEnd();
    while (client.More()) {
    }
  }
  EXPECT_EQ(Client(server_->port()).Ask(Post("/", "x")).status, 200);
}

}  // namespace
}  // namespace tfipu::serving::net::http1
