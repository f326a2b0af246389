// Runs a fuzzer's entry over seeds and deterministic mutations of them, with any compiler.
#ifndef SERVING_BASE_FUZZ_DRIVER_H_
#define SERVING_BASE_FUZZ_DRIVER_H_

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace tfipu::serving::base {

// Changes a few places of a text: bits, bytes, words put in, pieces taken out or repeated. The first `kept`
// bytes stay; they often say how the rest is to be read.
inline std::string MutatedFuzzInput(std::string input, const std::vector<std::string>& words,
                                    std::mt19937& random, std::size_t kept = 1) {
  for (int n = 1 + random() % 3; n > 0 && input.size() > 2; --n) {
    const auto place = [&] { return kept + random() % (input.size() - kept); };
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

struct FuzzProgram {
  std::vector<std::string> seeds;  // `run` accepts each
  std::function<std::string(std::string input, std::mt19937& random)> mutate;
  std::function<bool(std::string_view input)> run;  // whether the input is valid
  int mutations = 50000;
  unsigned random_seed = 21;
  // Mutations that are all refused, or all accepted, test little: then it is an error.
  bool demands_both = false;
};

// The main function of such a program:
//   PROGRAM [MUTATIONS]
//   PROGRAM --seeds FOLDER    writes the seeds for libFuzzer
inline int FuzzMain(int argc, char** argv, const FuzzProgram& program) {
  const std::vector<std::string>& seeds = program.seeds;
  if (argc == 3 && std::strcmp(argv[1], "--seeds") == 0) {
    for (std::size_t i = 0; i < seeds.size(); ++i) {
      std::ofstream(std::string(argv[2]) + "/seed" + std::to_string(i), std::ios::binary) << seeds[i];
    }
    return 0;
  }
  for (std::size_t i = 0; i < seeds.size(); ++i) {
    if (program.run(seeds[i])) continue;
    std::fprintf(stderr, "Seed %zu is not accepted\n", i);
    return 1;
  }
  const int mutations = argc > 1 ? std::atoi(argv[1]) : program.mutations;
  std::mt19937 random(program.random_seed);
  int accepted = 0;
  for (int i = 0; i < mutations; ++i)
    accepted += program.run(program.mutate(seeds[i % seeds.size()], random));
  std::printf("%d mutations, %d of them accepted\n", mutations, accepted);
  return program.demands_both && (accepted <= mutations / 100 || accepted == mutations) ? 1 : 0;
}

}  // namespace tfipu::serving::base

#endif  // SERVING_BASE_FUZZ_DRIVER_H_
