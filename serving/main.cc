// tensorflow_model_server: serves SavedModels over gRPC and REST. --help tells how to call it.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include "absl/types/span.h"
#include "serving/core/log.h"
#include "serving/flags.h"
#include "serving/probe.h"
#include "serving/server.h"
#include "serving/tensorflow_log.h"
#include "tensorflow/c/c_api.h"

namespace {

// For unloading models, after the requests' time.
constexpr std::chrono::seconds kUnloadTime{1};

constexpr std::chrono::seconds kProbeTime{5};

int RunProbe(const tfipu::serving::Flags& flags) {
  const absl::StatusOr<std::string> target = tfipu::serving::ProbeTarget(flags);
  const absl::Status status = target.ok() ? tfipu::serving::Probe(*target, kProbeTime) : target.status();
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}

// Blocks them in this thread and all that it starts.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

}  // namespace

int main(int argc, char** argv) {
  using tfipu::serving::LogError;
  using tfipu::serving::LogInfo;
  using tfipu::serving::LogWarning;
  tfipu::serving::Flags flags;
  if (const absl::Status status =
          tfipu::serving::ParseFlags(absl::MakeConstSpan(argv + 1, argc > 0 ? argc - 1 : 0), &flags);
      !status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    return 1;
  }
  if (flags.help) {
    std::fputs(tfipu::serving::FlagHelp().c_str(), stdout);
    return 0;
  }
  if (flags.version) {
    std::printf("TensorFlow ModelServer: %s\nTensorFlow Library: %s\n", TFIPU_VERSION, TF_Version());
    return 0;
  }
  if (flags.probe.has_value()) return RunProbe(flags);
  tfipu::serving::TakeTensorFlowLog();
  const sigset_t signals = BlockSignals();
  auto server = tfipu::serving::Server::Start(flags);
  if (!server.ok()) {
    LogError("Failed to start server. Error: ", server.status().message());
    _exit(1);
  }
  LogInfo("Entering the event loop ... SIGTERM or SIGINT ends it.");
  int received = 0;
  sigwait(&signals, &received);
  LogInfo("Signal ", received, ": finishing running requests.");
  std::thread([signals] {
    int again = 0;
    sigwait(&signals, &again);
    LogInfo("Signal ", again, ": ending at once.");
    _exit(128 + again);
  }).detach();
  // A request may be where nothing ends it, as in an operation that waits for a pipe.
  const std::chrono::seconds grace(std::max(0, flags.shutdown_grace_seconds));
  std::thread([grace, received] {
    std::this_thread::sleep_for(grace + kUnloadTime);
    LogWarning("Requests still run, or models are still being unloaded, ", (grace + kUnloadTime).count(),
               " s after the signal: ending without them.");
    _exit(128 + received);
  }).detach();
  (*server)->Shutdown();
  LogInfo("Ended.");
  // TensorFlow's static destructors have nothing left to do but to race with its threads.
  _exit(0);
}
