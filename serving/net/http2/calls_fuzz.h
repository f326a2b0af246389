// The fuzzer's entry over what a client sends on an HTTP/2 connection.
#ifndef SERVING_NET_HTTP2_CALLS_FUZZ_H_
#define SERVING_NET_HTTP2_CALLS_FUZZ_H_

#include <string>
#include <string_view>
#include <vector>

namespace tfipu::serving::net::http2 {

// Gives the input to calls with scripted methods, in pieces whose sizes its first byte picks, and aborts when
// something that was promised does not hold: what the connection holds is within its bound, every call is
// finished once, and nothing is held at the end. True if the connection could go on to the end of the input.
bool RunCallsFuzzInput(std::string_view input);

// Inputs with which a connection can go on.
std::vector<std::string> CallsFuzzSeeds();

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_CALLS_FUZZ_H_
