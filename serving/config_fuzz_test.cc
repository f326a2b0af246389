// Runs the fuzzer's entry over seeds and deterministic mutations of them, with any compiler.
//   config_fuzz_test [MUTATIONS]       100000 when not given
//   config_fuzz_test --seeds FOLDER    writes the seeds for libFuzzer: config_fuzz FOLDER
#include "serving/config_fuzz.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace {

std::string Mutated(std::string input, std::mt19937& random) {
  static const std::vector<std::string> words = {
      "{",  "}",    "{}",   ":",          "\"",  "0",   "-1",
      "9",  "true", "[",    "value: 0",   "'x'", "\\",  "9223372036854775807",
      "\n", "#",    "list", "4294967295", "nan", "1e9", "[type.googleapis.com/google.protobuf.Any] {"};
  const auto place = [&] { return 1 + random() % (input.size() - 1); };
  for (int n = 1 + random() % 3; n > 0 && input.size() > 1; --n) {
    switch (random() % 6) {
      case 0:
        input[place()] = static_cast<char>(random());
        break;
      case 1:
        input.insert(place(), words[random() % words.size()]);
        break;
      case 2:
        input.erase(place(), 1 + random() % 4);
        break;
      case 3: {
        const std::size_t from = place();
        input.insert(place(), input.substr(from, 1 + random() % 60));
        break;
      }
      case 4:  // another number
        if (const std::size_t digit = input.find_first_of("0123456789", place());
            digit != std::string::npos) {
          input.replace(digit, 1, words[random() % words.size()]);
        }
        break;
      case 5:
        input[0] = static_cast<char>(random() % 6);
        break;
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> seeds = tfipu::serving::ConfigFuzzSeeds();
  if (argc == 3 && std::string(argv[1]) == "--seeds") {
    for (std::size_t i = 0; i < seeds.size(); ++i) {
      std::ofstream(std::string(argv[2]) + "/config" + std::to_string(i), std::ios::binary) << seeds[i];
    }
    return 0;
  }
  for (const std::string& seed : seeds) {
    if (!tfipu::serving::ReadConfigFuzzInput(seed)) {
      std::fprintf(stderr, "This seed is not accepted: %s\n", seed.c_str() + 1);
      return 1;
    }
  }
  const int mutations = argc == 2 ? std::atoi(argv[1]) : 100000;
  std::mt19937 random(4);
  int accepted = 0;
  for (int i = 0; i < mutations; ++i) {
    accepted += tfipu::serving::ReadConfigFuzzInput(Mutated(seeds[i % seeds.size()], random));
  }
  std::printf("%d of %d mutations are accepted\n", accepted, mutations);
  // Mutations that are all refused, or all accepted, test little.
  return accepted > mutations / 100 && accepted < mutations ? 0 : 1;
}
