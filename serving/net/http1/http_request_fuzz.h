// The fuzzer's entry over what a client sends on an HTTP/1 connection.
#ifndef SERVING_NET_HTTP1_HTTP_REQUEST_FUZZ_H_
#define SERVING_NET_HTTP1_HTTP_REQUEST_FUZZ_H_

#include <string>
#include <string_view>
#include <vector>

namespace tfipu::serving::net::http1 {

// Parses the input, in two pieces that its first byte cuts, and aborts when a bound does not hold. True if it
// is a request.
bool ParseHttpFuzzInput(std::string_view input);

// Accepted inputs.
std::vector<std::string> HttpFuzzSeeds();

}  // namespace tfipu::serving::net::http1

#endif  // SERVING_NET_HTTP1_HTTP_REQUEST_FUZZ_H_
