#include "serving/net/http2/calls_fuzz.h"

#include "serving/base/fuzz_driver.h"
#include "serving/net/http2/frames_for_test.h"

int main(int argc, char** argv) {
  using namespace tfipu::serving;              // NOLINT
  using namespace tfipu::serving::net::http2;  // NOLINT
  const std::vector<std::string> words = {Frame(0, 1, 1, ""),
                                          Frame(3, 0, 1, std::string(4, '\0')),
                                          Frame(4, 0, 0, ""),
                                          Frame(6, 0, 0, "12345678"),
                                          Frame(8, 0, 0, std::string("\0\1\0\0", 4)),
                                          Headers(5, "/t/Echo"),
                                          Data(5, Message("x"), true),
                                          Headers(7, "/t/Stream", 5),
                                          Message(std::string(300, 'y')),
                                          Data(1, std::string(5000, '\0'), false)};
  base::FuzzProgram program;
  program.seeds = CallsFuzzSeeds();
  program.mutate = [&](std::string input, std::mt19937& random) {
    return base::MutatedFuzzInput(std::move(input), words, random);
  };
  program.run = RunCallsFuzzInput;
  return base::FuzzMain(argc, argv, program);
}
