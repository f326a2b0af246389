// How fast runs of numbers in a JSON request become floats, by how they are written. Items are numbers.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "serving/json/float_run.h"

namespace tfipu::serving {
namespace {

using namespace json::float_run_internal;  // NOLINT: both ways of reading

constexpr int kNumbers = 784;

std::string Text(const char* format, double scale) {
  std::mt19937 random(1);
  std::string text;
  for (int i = 0; i < kNumbers; ++i) {
    char number[64];
    std::snprintf(number, sizeof(number), format,
                  static_cast<double>(static_cast<float>(random() * 0x1p-32 * scale)));
    text += number;
    text += ", ";
  }
  // What follows in a real request, for a vector to be read from.
  return text + "0]" + std::string(128, ' ');
}

template <class Reader>
void Measure(benchmark::State& state, Reader reader, const char* format, double scale) {
  const std::string text = Text(format, scale);
  std::vector<float> values(kNumbers);
  for (auto _ : state) {
    float* out = values.data();
    benchmark::DoNotOptimize(
        reader(text.data(), text.data() + text.size(), &out, values.data() + values.size()));
    if (out != values.data() + values.size()) state.SkipWithError("not all numbers were read");
  }
  state.SetItemsProcessed(state.iterations() * kNumbers);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size() - 130));
}

#define TFIPU_COMPARE(name, format, scale)                          \
  BENCHMARK_CAPTURE(Measure, avx2_##name, ReadAvx2, format, scale); \
  BENCHMARK_CAPTURE(Measure, portable_##name, ReadPortable, format, scale)
TFIPU_COMPARE(doubles_of_floats, "%.17g", 1.0);
TFIPU_COMPARE(shortest, "%.9g", 1.0);
TFIPU_COMPARE(two_digits, "%.2f", 1.0);
TFIPU_COMPARE(hundreds, "%.6f", 999.0);
TFIPU_COMPARE(whole, "%.0f", 255.0);

}  // namespace
}  // namespace tfipu::serving

BENCHMARK_MAIN();
