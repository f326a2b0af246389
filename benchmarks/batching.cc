// Calls of one row on an executable compiled for many, over arrival rates: row batching, one call a step of
// the same program, and the same model compiled for one row.
//
// Open loop: calls arrive by a Poisson process whatever has been answered, and a call's latency counts from
// when it was due, so that a slow system cannot hide by being asked less. A rate that a system cannot keep up
// with shows as fewer answers than calls and latencies that grow with the run.
//
// Usage: batching [seconds for each figure, default 2] [rows of the compiled batch, default 32]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "cc/engine/engine.h"
#include "runtime_ops/feed_checks.h"
#include "runtime_ops/testing_model.h"

namespace tfipu {
namespace {

using Clock = std::chrono::steady_clock;
using tensorflow::Tensor;

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// A system under load: starts a call, and calls `answered` when it is done.
using System = std::function<void(std::function<void()> answered)>;

struct Figures {
  double rate = 0;          // answers a second, until the last
  double p50 = 0, p99 = 0;  // microseconds from due to answered
};

Figures Load(const System& system, double rate, double seconds) {
  const std::size_t count = std::max<std::size_t>(20, static_cast<std::size_t>(rate * seconds));
  std::vector<Clock::duration> due(count);
  std::mt19937_64 random(1);
  std::exponential_distribution<double> gap(rate);
  double at = 0;
  for (Clock::duration& time : due) {
    time = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(at));
    at += gap(random);
  }
  std::vector<double> latencies(count);
  std::atomic<std::size_t> answered{0};
  const Clock::time_point start = Clock::now();
  for (std::size_t i = 0; i < count; ++i) {
    while (Clock::now() - start < due[i]) {
      if (due[i] - (Clock::now() - start) > std::chrono::microseconds(200)) {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    }
    system([&, i] {
      latencies[i] = Seconds(Clock::now() - start - due[i]) * 1e6;
      answered.fetch_add(1, std::memory_order_release);
    });
  }
  while (answered.load(std::memory_order_acquire) < count)
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  Figures figures;
  figures.rate = static_cast<double>(count) / Seconds(Clock::now() - start);
  std::sort(latencies.begin(), latencies.end());
  figures.p50 = latencies[count / 2];
  figures.p99 = latencies[count * 99 / 100];
  return figures;
}

class EngineSystem {
 public:
  EngineSystem(const TestingProgram& program, int rows_of_call, const EngineOptions& options)
      : rows_(rows_of_call) {
    std::vector<ConstBuffer> startup;
    const std::vector<Tensor> weights = MlpWeights();
    for (const Tensor& weight : weights) startup.push_back(BytesOf(weight));
    engine_ = *Engine::Start(options, *program.Load(), startup);
    x_ = Filled({rows_, 784}, 0.5f);
    for (int i = 0; i < kResults; ++i) results_.push_back(Filled({rows_, 10}, 0));
  }

  void Call(std::function<void()> answered) {
    tfipu::Call call;
    call.infeeds = {BytesOf(x_)};
    // Nobody reads the results: calls may share them.
    const ConstBuffer out = BytesOf(results_[next_++ % kResults]);
    call.outfeeds = {MutableBuffer(const_cast<std::byte*>(out.data()), out.size())};
    call.rows = rows_;
    call.done = [answered = std::move(answered)](absl::Status) { answered(); };
    engine_->Enqueue(std::move(call));
  }

  std::shared_ptr<Engine> engine() { return engine_; }

 private:
  static constexpr int kResults = 4096;
  const int rows_;
  std::shared_ptr<Engine> engine_;
  Tensor x_;
  std::vector<Tensor> results_;
  std::size_t next_ = 0;
};

// The most answers a second: everything is asked at once.
double Saturation(const System& system, std::size_t count) {
  std::atomic<std::size_t> answered{0};
  const auto start = Clock::now();
  for (std::size_t i = 0; i < count; ++i) {
    system([&] { answered.fetch_add(1, std::memory_order_release); });
  }
  while (answered.load(std::memory_order_acquire) < count)
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  return static_cast<double>(count) / Seconds(Clock::now() - start);
}

void Compare(double seconds, int batch) {
  EngineOptions options;
  options.name = "batching";
  EngineSystem packed(MlpProgram(batch, true), 1, options);
  // A caller without row batching pads its row to the compiled batch itself.
  EngineSystem alone(MlpProgram(batch, false), batch, options);
  EngineSystem single(MlpProgram(1, false), 1, options);
  const System systems[] = {[&](auto answered) { packed.Call(std::move(answered)); },
                            [&](auto answered) { alone.Call(std::move(answered)); },
                            [&](auto answered) { single.Call(std::move(answered)); }};
  const char* names[] = {"row batching", "one call a step", "compiled for 1"};

  for (const System& system : systems) Saturation(system, 200);
  double most[3];
  for (int i = 0; i < 3; ++i) {
    const double rate = Saturation(systems[i], 500);
    most[i] = Saturation(systems[i], static_cast<std::size_t>(std::max(500.0, rate * seconds)));
  }
  std::printf("MLP 784-512-512-10 compiled for %d rows, calls of one row\n", batch);
  std::printf("saturation, calls/s: ");
  for (int i = 0; i < 3; ++i) std::printf("%s %.0f  ", names[i], most[i]);
  std::printf("\nrow batching over one call a step: %.1fx\n\n", most[0] / most[1]);
  std::printf("%10s", "arrivals/s");
  for (const char* name : names) std::printf(" | %-16s rate p50/p99 us", name);
  std::printf("\n");
  for (double share : {0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9}) {
    const double rate = most[0] * share;
    std::printf("%10.0f", rate);
    for (int i = 0; i < 3; ++i) {
      if (rate > 1.5 * most[i]) {
        std::printf(" | %35s", "over saturation");
        continue;
      }
      const Figures figures = Load(systems[i], rate, seconds);
      std::printf(" | %14.0f %9.0f/%10.0f", figures.rate, figures.p50, figures.p99);
      std::fflush(stdout);
    }
    std::printf("\n");
  }
  const EngineStatistics statistics = packed.engine()->Statistics();
  std::printf("\nrow batching, all rates: %llu steps, %.1f rows a step, device time p50 %.0f us\n",
              static_cast<unsigned long long>(statistics.steps),
              static_cast<double>(statistics.rows) / static_cast<double>(statistics.steps),
              statistics.device_time.Quantile(0.5));
}

}  // namespace
}  // namespace tfipu

int main(int argc, char** argv) {
  tfipu::Compare(argc > 1 ? std::atof(argv[1]) : 2, argc > 2 ? std::atoi(argv[2]) : 32);
}
