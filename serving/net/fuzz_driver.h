// Runs a fuzzer's entry over seeds and deterministic mutations of them, with any compiler.
#ifndef SERVING_NET_FUZZ_DRIVER_H_
#define SERVING_NET_FUZZ_DRIVER_H_

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace tfipu::serving::net {

inline std::string MutatedFuzzInput(std::string input, const std::vector<std::string>& words,
                                    std::mt19937& random) {
  for (int n = 1 + random() % 3; n > 0 && input.size() > 2; --n) {
    const auto place = [&] { return 1 + random() % (input.size() - 1); };
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

// The main function of such a program:
//   PROGRAM [MUTATIONS]
//   PROGRAM --seeds FOLDER    writes the seeds for libFuzzer
inline int FuzzMain(int argc, char** argv, const std::vector<std::string>& seeds,
                    const std::vector<std::string>& words, bool (*run)(std::string_view)) {
  if (argc == 3 && std::strcmp(argv[1], "--seeds") == 0) {
    for (std::size_t i = 0; i < seeds.size(); ++i) {
      std::ofstream(std::string(argv[2]) + "/seed" + std::to_string(i), std::ios::binary) << seeds[i];
    }
    return 0;
  }
  for (std::size_t i = 0; i < seeds.size(); ++i) {
    if (run(seeds[i])) continue;
    std::fprintf(stderr, "Seed %zu is not accepted\n", i);
    return 1;
  }
  const int mutations = argc > 1 ? std::atoi(argv[1]) : 50000;
  std::mt19937 random(21);
  int accepted = 0;
  for (int i = 0; i < mutations; ++i)
    accepted += run(MutatedFuzzInput(seeds[i % seeds.size()], words, random));
  std::printf("%d mutations, %d of them accepted\n", mutations, accepted);
  return 0;
}

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_FUZZ_DRIVER_H_
