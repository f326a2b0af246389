// Runs the fuzzer's entry over seeds and deterministic mutations of them, with any compiler.
//   rest_fuzz_test [MUTATIONS]       100000 when not given
//   rest_fuzz_test --seeds FOLDER    writes the seeds for libFuzzer: rest_fuzz FOLDER
#include "serving/rest/rest_fuzz.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace {

std::string Mutated(std::string input, std::mt19937& random) {
  static const std::vector<std::string> words = {
      "[",     "]",       "{",    "}",  ",",   ":",        "\"",   "\\",      "1",
      "0",     "-",       ".",    "e9", "NaN", "Infinity", "true", "null",    "\"b64\"",
      "\"x\"", "\\ud83d", "\r\n", "%",  "/",   " ",        "[[[[", "99999999"};
  const auto place = [&] { return 2 + random() % (input.size() - 2); };
  for (int n = 1 + random() % 3; n > 0 && input.size() > 2; --n) {
    switch (random() % 6) {
      case 0:
        input[place()] ^= static_cast<char>(1 << (random() % 8));
        break;
      case 1:
        input[place()] = static_cast<char>(random());
        break;
      case 2:
        input.insert(place(), words[random() % words.size()]);
        break;
      case 3:
        input.erase(place(), 1 + random() % 4);
        break;
      case 4: {
        const std::size_t from = place();
        input.insert(place(), input.substr(from, 1 + random() % 40));
        break;
      }
      case 5:
        if (random() % 8 == 0) input.resize(place());
        break;
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> seeds = tfipu::serving::RestFuzzSeeds();
  if (argc == 3 && std::strcmp(argv[1], "--seeds") == 0) {
    for (std::size_t i = 0; i < seeds.size(); ++i) {
      std::ofstream(std::string(argv[2]) + "/rest" + std::to_string(i), std::ios::binary) << seeds[i];
    }
    return 0;
  }
  for (std::size_t i = 0; i < seeds.size(); ++i) {
    if (!tfipu::serving::ParseRestFuzzInput(seeds[i])) {
      std::fprintf(stderr, "Seed %zu is not accepted: %s\n", i, seeds[i].c_str() + 2);
      return 1;
    }
  }
  const int mutations = argc > 1 ? std::atoi(argv[1]) : 100000;
  std::mt19937 random(21);
  int accepted = 0;
  for (int i = 0; i < mutations; ++i) {
    accepted += tfipu::serving::ParseRestFuzzInput(Mutated(seeds[i % seeds.size()], random));
  }
  std::printf("%d mutations, %d of them accepted\n", mutations, accepted);
  return 0;
}
