// What the way to the device costs: one call at a time through the bare device, the engine, the op in a C++
// session (in the caller's thread, and with TensorFlow's pools), and the plain model in a session; then many
// threads at once.
//
// Usage: op_overhead [seconds for each figure, default 1] [threads, default 64]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <thread>
#include <vector>

#include "cc/engine/engine_manager.h"
#include "runtime_ops/feed_checks.h"
#include "runtime_ops/testing_model.h"

namespace tfipu {
namespace {

using Clock = std::chrono::steady_clock;
using tensorflow::Tensor;

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// Median microseconds of a call.
double Median(double seconds, const std::function<void()>& call) {
  for (int i = 0; i < 100; ++i) call();
  std::vector<double> times;
  const auto end =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  for (auto start = Clock::now(); start < end;) {
    call();
    const auto now = Clock::now();
    times.push_back(Seconds(now - start) * 1e6);
    start = now;
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

// Gives a device the same step for a while.
class RepeatedStep : public StepSource {
 public:
  RepeatedStep(const Tensor& x, const Tensor& y, double seconds) {
    step_.infeeds = {BytesOf(x)};
    const ConstBuffer out = BytesOf(y);
    step_.outfeeds = {MutableBuffer(const_cast<std::byte*>(out.data()), out.size())};
    end_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }
  Step* NextStep() override {
    start_ = Clock::now();
    return start_ < end_ ? &step_ : nullptr;
  }
  void StepDone(Step*) override { times_.push_back(Seconds(Clock::now() - start_) * 1e6); }
  void RunEnded() override {}
  double Median() {
    std::nth_element(times_.begin(), times_.begin() + times_.size() / 2, times_.end());
    return times_[times_.size() / 2];
  }

 private:
  Step step_;
  Clock::time_point start_, end_;
  std::vector<double> times_;
};

double DeviceMedian(Program& program, const std::vector<ConstBuffer>& startup, const Tensor& x,
                    const Tensor& y, double seconds) {
  std::unique_ptr<Device> device = *program.CreateDevice(startup);
  RepeatedStep warm_up(x, y, seconds / 10);
  device->Run(warm_up);
  RepeatedStep source(x, y, seconds);
  device->Run(source);
  return source.Median();
}

void CallEngine(Engine& engine, const Tensor& x, const Tensor& y) {
  std::promise<absl::Status> answered;
  Call call;
  call.infeeds = {BytesOf(x)};
  const ConstBuffer out = BytesOf(y);
  call.outfeeds = {MutableBuffer(const_cast<std::byte*>(out.data()), out.size())};
  call.rows = x.dim_size(0);
  call.done = [&](absl::Status status) { answered.set_value(std::move(status)); };
  engine.Enqueue(std::move(call));
  answered.get_future().get().IgnoreError();
}

struct Model {
  const char* name;
  TestingProgram program;
  std::vector<Tensor> startup_inputs;
  tensorflow::TensorShape x, y;
  tensorflow::GraphDef plain;
};

tensorflow::GraphDef PlainDoubling() {
  tensorflow::GraphDef graph;
  *graph.add_node() = Placeholder("x", tensorflow::DT_FLOAT);
  tensorflow::NodeDef add = Node("y", "AddV2", {"x", "x"});
  tensorflow::AddNodeAttr("T", tensorflow::DT_FLOAT, &add);
  *graph.add_node() = add;
  return graph;
}

tensorflow::GraphDef PlainMlp() {
  tensorflow::GraphDef graph;
  *graph.add_node() = Placeholder("x", tensorflow::DT_FLOAT);
  std::string last = "x";
  int index = 0;
  for (const Tensor& weight : MlpWeights()) {
    const std::string number = std::to_string(++index);
    *graph.add_node() = Constant("w" + number, weight);
    tensorflow::NodeDef product = Node(index == 3 ? "y" : "d" + number, "MatMul", {last, "w" + number});
    tensorflow::AddNodeAttr("T", tensorflow::DT_FLOAT, &product);
    *graph.add_node() = product;
    if (index == 3) break;
    tensorflow::NodeDef relu = Node("r" + number, "Relu", {"d" + number});
    tensorflow::AddNodeAttr("T", tensorflow::DT_FLOAT, &relu);
    *graph.add_node() = relu;
    last = "r" + number;
  }
  return graph;
}

void Measure(const Model& model, double seconds, int thread_count) {
  const ExecutableFile file(model.program);
  const Tensor x = Filled(model.x, 0.5f);
  const Tensor y = Filled(model.y, 0);
  std::vector<ConstBuffer> startup;
  for (const Tensor& input : model.startup_inputs) startup.push_back(BytesOf(input));

  const double device = DeviceMedian(**model.program.Load(), startup, x, y, seconds);
  auto engine =
      *EngineManager::Global().StartOrAttach(EngineKey{{}, "bare"}, file.path(), -absl::Seconds(1), startup);
  const double through_engine = Median(seconds, [&] { CallEngine(*engine, x, y); });
  TestingSession in_line(CallGraph(file.path(), "in_line", model.startup_inputs), true);
  const double op = Median(seconds, [&] { in_line.Run(x).IgnoreError(); });
  TestingSession pooled(CallGraph(file.path(), "pooled", model.startup_inputs), false);
  const double op_pooled = Median(seconds, [&] { pooled.Run(x).IgnoreError(); });
  TestingSession plain(model.plain, true, "y:0");
  const double plain_op = Median(seconds, [&] { plain.Run(x).IgnoreError(); });
  std::printf("%-10s %9.2f %9.2f %9.2f %9.2f %9.2f   %+8.2f us (%.2fx)\n", model.name, device, through_engine,
              op, op_pooled, plain_op, op - device, op / device);
  std::fflush(stdout);

  const Tensor expected = *in_line.Run(x);
  std::atomic<std::int64_t> calls{0}, wrong{0};
  std::vector<std::thread> threads;
  const auto start = Clock::now();
  for (int t = 0; t < thread_count; ++t) {
    threads.emplace_back([&] {
      while (Seconds(Clock::now() - start) < seconds) {
        const absl::StatusOr<Tensor> result = in_line.Run(x);
        if (!result.ok() || result->tensor_data() != expected.tensor_data()) ++wrong;
        ++calls;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const double rate = static_cast<double>(calls) / Seconds(Clock::now() - start);
  std::printf("%-10s %d threads: %.0f calls/s, %.2f us each, %lld of %lld wrong\n", model.name, thread_count,
              rate, 1e6 / rate, static_cast<long long>(wrong), static_cast<long long>(calls));
}

}  // namespace
}  // namespace tfipu

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 1;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 64;
  std::printf("median us of a call, one at a time\n%-10s %9s %9s %9s %9s %9s   %s\n", "model", "device",
              "engine", "op", "op pooled", "plain TF", "op over device");
  tfipu::Measure({"x*2", tfipu::DoublingProgram(4), {}, {1, 4}, {1, 4}, tfipu::PlainDoubling()}, seconds,
                 threads);
  tfipu::Measure(
      {"MLP b1", tfipu::MlpProgram(1, false), tfipu::MlpWeights(), {1, 784}, {1, 10}, tfipu::PlainMlp()},
      seconds, threads);
  tfipu::Measure(
      {"MLP b32", tfipu::MlpProgram(32, false), tfipu::MlpWeights(), {32, 784}, {32, 10}, tfipu::PlainMlp()},
      seconds, threads);
}
