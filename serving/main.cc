// tensorflow_model_server: serves SavedModels over gRPC and REST. --help tells how to call it.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "serving/core/log.h"
#include "serving/flags.h"
#include "serving/probe.h"
#include "serving/server.h"
#include "serving/server/end_signals.h"
#include "serving/tensorflow_log.h"
#include "tensorflow/c/c_api.h"

using tfipu::serving::LogError;
using tfipu::serving::LogInfo;

namespace {

constexpr std::chrono::seconds kProbeTime{5};

int RunProbe(const tfipu::serving::Flags& flags) {
  const absl::StatusOr<std::string> target = tfipu::serving::ProbeTarget(flags);
  const absl::Status status = target.ok() ? tfipu::serving::Probe(*target, kProbeTime) : target.status();
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
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
  signal(SIGPIPE, SIG_IGN);
  try {
    // For as long as the process lives.
    auto& signals =
        *new tfipu::serving::EndSignals(std::chrono::seconds(std::max(0, flags.shutdown_grace_seconds)));
    auto server = tfipu::serving::Server::Load(flags);
    signals.Serve();
    const absl::Status listening = server.ok() ? (*server)->Listen() : server.status();
    if (!listening.ok()) {
      LogError("Failed to start server. Error: ", listening.message());
      _exit(1);
    }
    LogInfo("Entering the event loop ... SIGTERM or SIGINT ends it.");
    signals.Wait();
    (*server)->Shutdown();
    LogInfo("Ended.");
  } catch (const std::exception& error) {
    LogError("The server ended: ", error.what());
    _exit(1);
  }
  // TensorFlow's static destructors have nothing left to do but to race with its threads.
  _exit(0);
}
