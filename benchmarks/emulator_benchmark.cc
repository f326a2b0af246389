// What a step costs on the emulator, what pipelining gains, and what loading takes.
//   emulator_benchmark [--benchmark_filter=REGEX]
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "cc/base/buffer.h"
#include "cc/device/device.h"
#include "cc/device/emulator/emulator.h"
#include "cc/device/emulator/testing_program.h"
#include "cc/executable/executable.h"

namespace tfipu {
namespace {

// Gives the same few steps again and again, until so many are done.
class EndlessSource : public StepSource {
 public:
  EndlessSource(const ExecutableHeader& header, int64_t count) : count_(count), steps_(8) {
    for (Step& step : steps_) {
      for (const TensorSpec& spec : header.infeeds()) step.infeeds.push_back(New(spec));
      for (const TensorSpec& spec : header.outfeeds()) step.outfeeds.push_back(New(spec));
    }
  }

  Step* NextStep() override { return next_ == count_ ? nullptr : &steps_[next_++ % steps_.size()]; }
  void StepDone(Step*) override {}
  void RunEnded() override {}

 private:
  MutableBuffer New(const TensorSpec& spec) {
    buffers_.emplace_back(*TensorSize(spec));
    std::memset(buffers_.back().data(), 0, buffers_.back().size());
    return buffers_.back().span();
  }

  const int64_t count_;
  int64_t next_ = 0;
  std::vector<Step> steps_;
  std::vector<AlignedBuffer> buffers_;
};

void RunSteps(benchmark::State& state, const TestingProgram& program) {
  auto loaded = program.Load();
  if (!loaded.ok()) return state.SkipWithError(loaded.status().ToString().c_str());
  const std::unique_ptr<Device> device = *(*loaded)->CreateDevice({});
  // The device keeps running over all iterations, as under load: one iteration is one step.
  EndlessSource source((*loaded)->executable().header(), state.max_iterations);
  while (state.KeepRunningBatch(state.max_iterations)) device->Run(source);
  state.SetItemsProcessed(state.iterations());
}

constexpr char kTimesTwo[] = R"(HloModule s ENTRY main { x = f32[4] parameter(0) two = f32[] constant(2)
    twos = f32[4] broadcast(two), dimensions={} ROOT y = f32[4] multiply(x, twos) })";

void BM_StepTimesTwo(benchmark::State& state) { RunSteps(state, TestingProgram::OneStage(kTimesTwo)); }
BENCHMARK(BM_StepTimesTwo)->UseRealTime();

void BM_StepTimesTwoExceptions(benchmark::State& state) {
  TestingProgram program = TestingProgram::OneStage(kTimesTwo);
  program.header.mutable_floating_point()->set_inv(true);
  program.header.mutable_floating_point()->set_div0(true);
  program.header.mutable_floating_point()->set_oflo(true);
  RunSteps(state, program);
}
BENCHMARK(BM_StepTimesTwoExceptions)->UseRealTime();

void BM_StepTimesTwoHeld(benchmark::State& state) {
  TestingProgram program = TestingProgram::OneStage(kTimesTwo);
  program.header.set_hold(2);
  RunSteps(state, program);
}
BENCHMARK(BM_StepTimesTwoHeld)->UseRealTime();

void BM_StepTwoTrivialStages(benchmark::State& state) {
  RunSteps(state, TestingProgram::Chain({kTimesTwo, kTimesTwo}, static_cast<Schedule>(state.range(0))));
}
BENCHMARK(BM_StepTwoTrivialStages)->Arg(GROUPED)->Arg(SEQUENTIAL)->UseRealTime();

void BM_StepMlp(benchmark::State& state) {
  const int64_t batch = state.range(0);
  RunSteps(state, TestingProgram::ChainOfModules({MlpHlo(batch, {784, 512, 512, 10})}, {batch, 784}));
}
BENCHMARK(BM_StepMlp)->Arg(1)->Arg(32)->UseRealTime();

// Eight layers of 256 in one stage, and four in each of two stages on two IPUs: items_per_second of the
// second over that of the first is what pipelining gains.
void BM_EqualStages(benchmark::State& state) {
  const int64_t batch = state.range(1);
  if (state.range(0) == 1) {
    RunSteps(state,
             TestingProgram::ChainOfModules({MlpHlo(batch, std::vector<int64_t>(9, 256))}, {batch, 256}));
  } else {
    const std::vector<int64_t> widths(5, 256);
    RunSteps(state, TestingProgram::ChainOfModules({MlpHlo(batch, widths, 1), MlpHlo(batch, widths, 2)},
                                                   {batch, 256}));
  }
}
BENCHMARK(BM_EqualStages)->ArgNames({"stages", "batch"})->ArgsProduct({{1, 2}, {1, 32}})->UseRealTime();

double ResidentMebibytes() {
  std::ifstream file("/proc/self/statm");
  long size = 0, resident = 0;
  file >> size >> resident;
  return static_cast<double>(resident) * sysconf(_SC_PAGESIZE) / 1048576;
}

// An MLP with 64 MiB of weights: time of Backend::Load(), and what the first and each further program on the
// same executable add to the process.
void BM_LoadMappedWeights(benchmark::State& state) {
  const TestingProgram program =
      TestingProgram::ChainOfModules({MlpHlo(1, std::vector<int64_t>(17, 1024))}, {1, 1024});
  auto executable = program.Compile();
  if (!executable.ok()) return state.SkipWithError(executable.status().ToString().c_str());
  std::vector<std::shared_ptr<Program>> programs;
  const double before = ResidentMebibytes();
  double first = 0;
  for (auto _ : state) {
    programs.push_back(*Emulator().Load(*executable));
    if (programs.size() == 1) first = ResidentMebibytes() - before;
  }
  state.counters["file_MiB"] = static_cast<double>((*executable)->header().file_size()) / 1048576;
  state.counters["first_MiB"] = first;
  state.counters["further_MiB"] =
      programs.size() < 2 ? 0 : (ResidentMebibytes() - before - first) / (programs.size() - 1);
}
BENCHMARK(BM_LoadMappedWeights)->Iterations(8)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace tfipu

BENCHMARK_MAIN();
