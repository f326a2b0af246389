#include "serving/config_fuzz.h"

#include <random>
#include <string>
#include <vector>

#include "serving/base/fuzz_driver.h"

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
  tfipu::serving::base::FuzzProgram program;
  program.seeds = tfipu::serving::ConfigFuzzSeeds();
  program.mutate = Mutated;
  program.run = tfipu::serving::ReadConfigFuzzInput;
  program.mutations = 100000;
  program.random_seed = 4;
  program.demands_both = true;
  return tfipu::serving::base::FuzzMain(argc, argv, program);
}
