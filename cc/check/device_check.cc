// Runs an executable on a PJRT plugin where there is no TensorFlow, and compares its answers with recorded
// ones.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/globals.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "cc/base/status_macros.h"
#include "cc/check/recorded_steps.h"
#include "cc/device/backends.h"
#include "cc/device/pjrt/pjrt_backend.h"
#include "cc/load/load_driver.h"

namespace tfipu {
namespace {

constexpr char kUsage[] =
    "usage: device_check EXECUTABLE --plugin=LIBRARY [--steps=RECORDED] [--tolerance=1e-5] [--seconds=0]\n"
    "                    [--steps_in_flight=0] [--preallocate=true|false]\n"
    "Loads EXECUTABLE on the PJRT plugin and compares its answers with the steps that `tensorflow_ipu "
    "record` wrote\n"
    "for the same program on another device. --seconds: then measures it so long for each number of calls in "
    "flight.\n"
    "Exit status 0: right; 1: wrong, or it does not run; 2: the command line is wrong.\n";

struct Settings {
  std::string executable, steps;
  double tolerance = 1e-5;
  double seconds = 0;
  PjrtOptions pjrt;
};

absl::StatusOr<Settings> Parse(const std::vector<std::string>& arguments) {
  Settings settings;
  for (const std::string& argument : arguments) {
    absl::string_view value = argument;
    bool good = true;
    if (absl::ConsumePrefix(&value, "--plugin=")) {
      settings.pjrt.plugins.push_back({std::string(value)});
    } else if (absl::ConsumePrefix(&value, "--steps=")) {
      settings.steps = std::string(value);
    } else if (absl::ConsumePrefix(&value, "--tolerance=")) {
      good = absl::SimpleAtod(value, &settings.tolerance);
    } else if (absl::ConsumePrefix(&value, "--seconds=")) {
      good = absl::SimpleAtod(value, &settings.seconds);
    } else if (absl::ConsumePrefix(&value, "--steps_in_flight=")) {
      good = absl::SimpleAtoi(value, &settings.pjrt.steps_in_flight) && settings.pjrt.steps_in_flight >= 0;
    } else if (absl::ConsumePrefix(&value, "--preallocate=")) {
      good = value == "true" || value == "false";
      settings.pjrt.memory.preallocate = value == "true";
    } else {
      good = settings.executable.empty() && !absl::StartsWith(value, "-");
      settings.executable = argument;
    }
    if (!good) return absl::InvalidArgumentError(absl::StrCat("found ", argument));
  }
  if (settings.executable.empty()) return absl::InvalidArgumentError("no executable is named");
  return settings;
}

absl::Status Measure(const std::shared_ptr<Program>& program, const RecordedSteps& recorded, double seconds) {
  std::printf("calls in flight   calls/s   p50 us   p99 us\n");
  for (int concurrency : {1, 2, 4, 8}) {
    TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<Engine> engine, StartEngine(program, recorded, 0));
    LoadOptions load;
    load.concurrency = concurrency;
    load.duration = absl::Seconds(seconds);
    TFIPU_ASSIGN_OR_RETURN(const LoadResult result, DriveLoad(*engine, load));
    if (result.failed > 0) return result.failure;
    if (result.calls == 0) {
      std::printf("%15d no call within %g seconds\n", concurrency, seconds);
      continue;
    }
    std::printf("%15d %9.0f %8.1f %8.1f\n", concurrency, result.calls / result.seconds,
                result.latency.Quantile(0.5) / 1000, result.latency.Quantile(0.99) / 1000);
  }
  return absl::OkStatus();
}

absl::Status Check(const Settings& settings) {
  TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<const Executable> executable, Executable::Open(settings.executable));
  const auto backend = MakePjrtBackend(settings.pjrt);
  TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<Program> program, Backends({backend.get()}).Load(executable));
  for (const Offer& offer : backend->Offers()) {
    std::printf("%s on %u x %s (%s)\n", executable->header().name().c_str(), offer.target.num_ipus(),
                offer.target.pjrt().device_kind().c_str(), offer.target.pjrt().platform().c_str());
  }
  RecordedSteps recorded;
  if (settings.steps.empty()) {
    TFIPU_ASSIGN_OR_RETURN(recorded, RecordSteps(program, 1, 1));
    std::printf("it runs; nothing was compared\n");
  } else {
    TFIPU_ASSIGN_OR_RETURN(recorded, ReadSteps(settings.steps));
    TFIPU_ASSIGN_OR_RETURN(const Comparison found, CompareSteps(program, recorded));
    std::printf("%d steps, %llu values: largest relative difference %.3g%s%s, %llu unequal\n",
                recorded.steps_size(), static_cast<unsigned long long>(found.values),
                found.largest_difference, found.where.empty() ? "" : " at ", found.where.c_str(),
                static_cast<unsigned long long>(found.unequal));
    if (found.largest_difference > settings.tolerance || found.unequal > 0) {
      return absl::DataLossError(
          absl::StrCat("the answers are not the recorded ones, to ", settings.tolerance));
    }
  }
  return settings.seconds > 0 ? Measure(program, recorded, settings.seconds) : absl::OkStatus();
}

int Main(int argc, char** argv) {
  absl::SetMinLogLevel(absl::LogSeverityAtLeast::kError);
  const absl::StatusOr<Settings> settings = Parse({argv + 1, argv + argc});
  if (!settings.ok()) {
    std::fprintf(stderr, "device_check: %s\n%s", std::string(settings.status().message()).c_str(), kUsage);
    return 2;
  }
  const absl::Status status = Check(*settings);
  std::fflush(stdout);
  if (!status.ok()) std::fprintf(stderr, "device_check: %s\n", status.ToString().c_str());
  // A plugin's threads may still be there: nothing is torn down.
  std::_Exit(status.ok() ? 0 : 1);
}

}  // namespace
}  // namespace tfipu

int main(int argc, char** argv) { return tfipu::Main(argc, argv); }
