// Runs the fuzzer's entry over seeds and deterministic mutations of them, with any compiler.
//   executable_fuzz_test [MUTATIONS]       20000 when not given
//   executable_fuzz_test --seeds FOLDER    writes the seeds for libFuzzer: executable_fuzz FOLDER
#include "cc/executable/executable_fuzz.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cc/executable/format.h"
#include "cc/executable/test_executable.h"

namespace {

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  for (bool dynamic_batch : {false, true}) {
    tfipu::ExecutableHeader header = tfipu::TestHeader();
    header.set_dynamic_batch(dynamic_batch);
    header.mutable_weights(0)->mutable_spec()->set_dims(1, 4);
    tfipu::ExecutableWriter writer;
    tfipu::AddTestBlobs(header, writer);
    const std::string path = tfipu::TestPath("seed");
    if (!writer.Write(header, path).ok()) std::abort();
    const std::string file = tfipu::ReadBytes(path);
    std::remove(path.c_str());
    const std::uint64_t length = *tfipu::ParsePreamble(file.substr(0, tfipu::kPreambleSize));
    const std::string size = {static_cast<char>(length), static_cast<char>(length >> 8)};
    seeds.push_back('\0' + file);
    for (char mode : {'\1', '\2'}) seeds.push_back(mode + size + file.substr(tfipu::kPreambleSize));
  }
  return seeds;
}

std::string Mutated(std::string input, std::mt19937& random) {
  // Most of a seed is zeros and blobs: three of four mutations go to where the header is.
  const auto place = [&] {
    return random() % (random() % 4 == 0 ? input.size() : std::min<std::size_t>(input.size(), 1500));
  };
  for (int n = 1 + random() % 4; n > 0 && !input.empty(); --n) {
    switch (random() % 6) {
      case 0:
        input[place()] ^= static_cast<char>(1 << (random() % 8));
        break;
      case 1:
        input[place()] = static_cast<char>(random());
        break;
      case 2:  // a varint that says a lot
        input[place()] = '\xff';
        break;
      case 3:
        input.erase(place(), 1 + random() % 8);
        break;
      case 4:
        input.insert(place(), input.substr(place(), 1 + random() % 32));
        break;
      case 5:
        if (random() % 8 == 0) input.resize(place());
        break;
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> seeds = Seeds();
  if (argc == 3 && std::strcmp(argv[1], "--seeds") == 0) {
    for (std::size_t i = 0; i < seeds.size(); ++i) {
      tfipu::WriteBytes(std::string(argv[2]) + "/seed" + std::to_string(i), seeds[i]);
    }
    return 0;
  }
  for (std::size_t i = 0; i < seeds.size(); ++i) {
    if (!tfipu::OpenFuzzInput(seeds[i])) {
      std::fprintf(stderr, "Seed %zu does not open\n", i);
      return 1;
    }
  }
  const int mutations = argc > 1 ? std::atoi(argv[1]) : 20000;
  std::mt19937 random(20);
  int opened = 0;
  for (int i = 0; i < mutations; ++i)
    opened += tfipu::OpenFuzzInput(Mutated(seeds[i % seeds.size()], random));
  std::printf("%d mutations, %d of them valid executables\n", mutations, opened);
  return 0;
}
