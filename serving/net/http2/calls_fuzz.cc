#include "serving/net/http2/calls_fuzz.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "serving/net/deflate.h"
#include "serving/net/http2/calls_peer.h"
#include "serving/net/http2/frames_for_test.h"

namespace tfipu::serving::net::http2 {
namespace {

constexpr std::size_t kBound = 300000;
// What is counted without being asked for: calls themselves, and frames that wait for the socket.
constexpr std::size_t kBesides = 2 << 20;

void Demand(bool promise) {
  if (!promise) std::abort();
}

}  // namespace

bool RunCallsFuzzInput(std::string_view input) {
  if (input.empty()) return false;
  const std::size_t piece = 1 + static_cast<unsigned char>(input[0]) * 37;
  input.remove_prefix(1);
  ScriptedCalls server(kBound);
  bool alive = server.Flush();
  for (std::size_t turn = 0; alive && !input.empty(); ++turn) {
    alive = server.Receive(input.substr(0, piece));
    input.remove_prefix(std::min(piece, input.size()));
    if (turn % 3 == 1) server.FinishHeld();
    if (turn % 2 == 0) server.Sent();
    Demand(server.account()->held() <= kBound + kBesides);
  }
  server.FinishHeld();
  Demand(server.context().calls == 0);
  server.End();
  Demand(server.account()->held() == 0);
  return alive;
}

std::vector<std::string> CallsFuzzSeeds() {
  Buffer packed;
  if (!DeflateIfSmaller(DeflateFormat::kGzip, 6, std::string(2000, 'x'), 0, &packed)) std::abort();
  const std::string gzip(packed.view());
  const std::string no_window("\0\4\0\0\0\0", 6);
  const std::vector<std::string> connections = {
      Preface() + Headers(1, "/t/Echo") + Data(1, Message("one"), true),
      Preface() + Headers(1, "/t/Echo") + Headers(3, "/t/Hold") + Data(3, Message("two"), true) +
          Data(1, Message("one").substr(0, 3), false) + Data(1, Message("one").substr(3), true),
      Preface() + Headers(1, "/t/Echo", 4, Field("grpc-encoding", "gzip")) +
          Data(1, Message(gzip, true), true),
      Preface() + Headers(1, "/t/Stream") + Data(1, Message("a") + Message("b") + Message("c"), true),
      Preface(no_window) + Headers(1, "/t/Stream") + Data(1, Message("a") + Message("b"), false) +
          Frame(8, 0, 1, std::string("\0\0\1\0", 4)) + Data(1, "", true),
      Preface() + Headers(1, "/t/Watch") + Data(1, Message(""), true) +
          Frame(3, 0, 1, std::string("\0\0\0\x08", 4)),
      Preface() + Headers(1, "/t/Throw", 4, Field("grpc-timeout", "10S")) + Data(1, Message("x"), true) +
          Frame(6, 0, 0, "12345678") + Frame(7, 0, 0, std::string(8, '\0')),
      Preface() + Headers(1, "/t/Nope") + Headers(3, "/t/Echo", 5) +
          Frame(2, 0, 3, std::string("\0\0\0\0\1", 5)),
  };
  std::vector<std::string> seeds;
  for (const char piece : {'\0', '\1', '\x7f'}) {
    for (const std::string& connection : connections) seeds.push_back(piece + connection);
  }
  return seeds;
}

}  // namespace tfipu::serving::net::http2

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tfipu::serving::net::http2::RunCallsFuzzInput({reinterpret_cast<const char*>(data), size});
  return 0;
}
