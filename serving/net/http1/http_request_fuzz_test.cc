#include "serving/net/http1/http_request_fuzz.h"

#include "serving/base/fuzz_driver.h"

int main(int argc, char** argv) {
  using namespace tfipu::serving;  // NOLINT
  const std::vector<std::string> words = {"\r\n",      "Host: y\r\n", "chunked", ": ", "Content-Length: 9",
                                          "0\r\n\r\n", "ffff\r\n",    ";",       "\n"};
  base::FuzzProgram program;
  program.seeds = net::http1::HttpFuzzSeeds();
  program.mutate = [&](std::string input, std::mt19937& random) {
    return base::MutatedFuzzInput(std::move(input), words, random);
  };
  program.run = net::http1::ParseHttpFuzzInput;
  return base::FuzzMain(argc, argv, program);
}
