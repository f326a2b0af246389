// What our device adds to a bare PJRT plugin: pjrt_overhead PLUGIN [SECONDS]
//   x * 2 on float32[4]: upload, execute, wait, copy out, called by hand; then by the steps of a device, with
//   one and with eight in flight; then by the emulator. Microseconds a step.
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cc/device/backends.h"
#include "cc/device/emulator/testing_program.h"
#include "cc/device/pjrt/pjrt_backend.h"
#include "cc/device/pjrt/pjrt_program.h"

namespace tfipu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kDoubling[] = R"(
  HloModule double
  ENTRY main {
    x = f32[4] parameter(0)
    two = f32[] constant(2)
    twos = f32[4] broadcast(two), dimensions={}
    ROOT y = f32[4] multiply(x, twos)
  })";

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    std::exit(1);
  }
  return *std::move(value);
}

double Microseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

// Steps for as long as the time lasts.
class TimedSteps : public StepSource {
 public:
  TimedSteps(double seconds, std::size_t at_once)
      : end_(Clock::now() +
             std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds))),
        x_(at_once + 1),
        y_(at_once + 1),
        steps_(at_once + 1) {
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      x_[i] = AlignedBuffer(16);
      y_[i] = AlignedBuffer(16);
      std::memset(x_[i].data(), 0, 16);
      steps_[i].infeeds = {x_[i].span()};
      steps_[i].outfeeds = {y_[i].span()};
    }
  }

  Step* NextStep() override { return Clock::now() < end_ ? &steps_[count_++ % steps_.size()] : nullptr; }
  void StepDone(Step*) override {}
  void RunEnded() override {}

  std::size_t count() const { return count_; }

 private:
  const Clock::time_point end_;
  std::vector<AlignedBuffer> x_, y_;
  std::vector<Step> steps_;
  std::size_t count_ = 0;
};

double OfDevice(Program& program, double seconds, std::size_t at_once) {
  const auto device = OrDie(program.CreateDevice({}));
  TimedSteps warm_up(0.1, at_once);
  device->Run(warm_up);
  TimedSteps steps(seconds, at_once);
  const auto start = Clock::now();
  if (const auto failure = device->Run(steps)) {
    std::fprintf(stderr, "%s\n", failure->reason.c_str());
    std::exit(1);
  }
  return Microseconds(Clock::now() - start) / steps.count();
}

double OfBarePlugin(const PluginSource& source, const Executable& executable, double seconds) {
  Client* client = OrDie(Client::Get(OrDie(Plugin::Load(source)), {}));
  const Plugin& plugin = client->plugin();
  const ExecutableHeader& header = executable.header();
  const auto stage =
      OrDie(LoadedStage::Load(client, header.stages(0), executable.blob(header.stages(0).code())));
  PJRT_Device* device = client->devices()[0];
  AlignedBuffer x(16), y(16);
  std::memset(x.data(), 0, 16);
  std::size_t count = 0;
  const auto start = Clock::now();
  while (std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
    const auto input =
        OrDie(DeviceBuffer::FromHost(&plugin, client->get(), device, header.infeeds(0), x.span()));
    std::vector<std::shared_ptr<DeviceBuffer>> results;
    PJRT_Event* complete = OrDie(stage->Execute(device, {input->get()}, {}, results));
    auto await = PjrtArgs<PJRT_Event_Await_Args>();
    await.event = complete;
    plugin.Call(&PJRT_Api::PJRT_Event_Await, await).IgnoreError();
    auto destroy = PjrtArgs<PJRT_Event_Destroy_Args>();
    destroy.event = complete;
    plugin.Call(&PJRT_Api::PJRT_Event_Destroy, destroy).IgnoreError();
    std::memcpy(y.data(), OrDie(results[0]->HostPointer()), 16);
    ++count;
  }
  return Microseconds(Clock::now() - start) / count;
}

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: pjrt_overhead PLUGIN [SECONDS]\n");
    return 2;
  }
  const double seconds = argc > 2 ? std::atof(argv[2]) : 2;
  const PluginSource source{argv[1]};
  TestingProgram program = TestingProgram::OneStage(kDoubling);
  std::printf("emulator              %8.2f us a step\n", OfDevice(*OrDie(program.Load()), seconds, 1));

  program.header.mutable_target()->mutable_pjrt()->set_name("cpu-pjrt");
  CompileOptions options;
  options.pjrt.plugin = source;
  const auto executable = OrDie(program.Compile(options));
  std::printf("bare plugin           %8.2f us a step\n", OfBarePlugin(source, *executable, seconds));
  for (const int in_flight : {1, 8}) {
    PjrtOptions pjrt;
    pjrt.plugins = {source};
    pjrt.steps_in_flight = in_flight;
    const auto backend = MakePjrtBackend(pjrt);
    const auto loaded = OrDie(Backends({backend.get()}).Load(executable));
    std::printf("device, %d in flight   %8.2f us a step\n", in_flight, OfDevice(*loaded, seconds, in_flight));
  }
  std::fflush(stdout);
  std::_Exit(0);
}

}  // namespace
}  // namespace tfipu

int main(int argc, char** argv) { return tfipu::Main(argc, argv); }
