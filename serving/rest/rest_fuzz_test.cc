// rest_fuzz FOLDER is the libFuzzer program of the same entry.
#include "serving/rest/rest_fuzz.h"

#include "serving/base/fuzz_driver.h"

int main(int argc, char** argv) {
  using namespace tfipu::serving;  // NOLINT
  const std::vector<std::string> words = {"[",        "]",    "{",    "}",       ",",       ":",       "\"",
                                          "\\",       "1",    "0",    "-",       ".",       "e9",      "NaN",
                                          "Infinity", "true", "null", "\"b64\"", "\"x\"",   "\\ud83d", "\r\n",
                                          "%",        "/",    " ",    "[[[[",    "99999999"};
  base::FuzzProgram program;
  program.seeds = RestFuzzSeeds();
  program.mutate = [&](std::string input, std::mt19937& random) {
    return base::MutatedFuzzInput(std::move(input), words, random, /*kept=*/2);
  };
  program.run = ParseRestFuzzInput;
  program.mutations = 100000;
  return base::FuzzMain(argc, argv, program);
}
