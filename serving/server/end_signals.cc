#include "serving/server/end_signals.h"

#include <errno.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "serving/core/log.h"

namespace tfipu::serving {
namespace {

// For unloading models, after the requests' time.
constexpr std::chrono::seconds kUnloadTime{1};

sigset_t Signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// Libraries make threads while their static initialisers run, before main(). What is in the program's preinit
// array runs before those.
void BlockSignals(int, char**, char**) {
  const sigset_t signals = Signals();
  sigprocmask(SIG_BLOCK, &signals, nullptr);
}
__attribute__((section(".preinit_array"), used)) void (*const block)(int, char**, char**) = BlockSignals;

// The signal, or 0 when the time is over.
int WaitForSignal(std::chrono::seconds time) {
  const sigset_t signals = Signals();
  const auto end = std::chrono::steady_clock::now() + time;
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::nanoseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return 0;
    timespec limit{};
    limit.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000);
    limit.tv_nsec = static_cast<long>(left.count() % 1'000'000'000);
    const int received = sigtimedwait(&signals, nullptr, &limit);
    if (received > 0) return received;
  }
}

}  // namespace

EndSignals::EndSignals(std::chrono::seconds grace) : grace_(grace) {
  std::thread([this] { Run(); }).detach();
}

void EndSignals::Serve() {
  absl::MutexLock lock(&mutex_);
  serves_ = true;
}

void EndSignals::Wait() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&received_));
}

void EndSignals::Run() {
  const sigset_t signals = Signals();
  int first = 0;
  while (sigwait(&signals, &first) != 0) continue;
  {
    absl::MutexLock lock(&mutex_);
    if (!serves_) {
      LogInfo("Signal ", first, " before the server listens: ending.");
      _exit(0);
    }
    LogInfo("Signal ", first, ": finishing running requests.");
    received_ = true;
  }
  const std::chrono::seconds time = grace_ + kUnloadTime;
  if (const int again = WaitForSignal(time); again != 0) {
    LogInfo("Signal ", again, ": ending at once.");
    _exit(128 + again);
  }
  // A request may be where nothing ends it, as in an operation that waits for a pipe.
  LogWarning("Requests still run, or models are still being unloaded, ", time.count(),
             " s after the signal: ending without them.");
  _exit(128 + first);
}

}  // namespace tfipu::serving
