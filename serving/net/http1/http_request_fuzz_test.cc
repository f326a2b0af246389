#include "serving/net/http1/http_request_fuzz.h"

#include "serving/net/fuzz_driver.h"

int main(int argc, char** argv) {
  using namespace tfipu::serving::net;  // NOLINT
  return FuzzMain(
      argc, argv, http1::HttpFuzzSeeds(),
      {"\r\n", "Host: y\r\n", "chunked", ": ", "Content-Length: 9", "0\r\n\r\n", "ffff\r\n", ";", "\n"},
      http1::ParseHttpFuzzInput);
}
