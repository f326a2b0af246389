#include "serving/tensorflow_log.h"

#include <cstdlib>

#include "absl/base/log_severity.h"
#include "absl/log/globals.h"
#include "absl/log/internal/globals.h"
#include "absl/log/log_sink.h"
#include "absl/log/log_sink_registry.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "serving/core/log.h"

namespace tfipu::serving {
namespace {

// Parts of lines that warn of nothing. A call that fails is its client's to know.
const char* const kFalseAlarms[] = {
    "prefer-no-gather",
    "prefer-no-scatter",
    "is not a recognized feature for this target",
    "MLIR V1 optimization pass is not enabled",
    "Overriding allow_growth setting",
    "OUT_OF_RANGE: End of sequence",
    "failed call to cuInit",
    "Local rendezvous is aborting with status",
    "oneDNN supports DT_HALF only on platforms with",
};

// TensorFlow logs while its static initialisers run, before main(). What is in the program's preinit array
// runs before those; the level is a constant-initialised atomic, and TF_CPP_MIN_LOG_LEVEL still replaces it.
void QuietenStaticInitialisers(int, char**, char**) {
  absl::SetMinLogLevel(absl::LogSeverityAtLeast::kWarning);
}
__attribute__((section(".preinit_array"), used)) void (*const quieten)(int, char**,
                                                                       char**) = QuietenStaticInitialisers;

class Sink : public absl::LogSink {
 public:
  explicit Sink(bool everything) : everything_(everything) {}

  void Send(const absl::LogEntry& entry) override {
    const absl::string_view message = entry.text_message();
    if (!everything_) {
      if (entry.log_severity() < absl::LogSeverity::kWarning) return;
      for (const char* const part : kFalseAlarms) {
        if (absl::StrContains(message, part)) return;
      }
    }
    const Severity severity = entry.log_severity() >= absl::LogSeverity::kError     ? Severity::kError
                              : entry.log_severity() == absl::LogSeverity::kWarning ? Severity::kWarning
                                                                                    : Severity::kInfo;
    WriteLog(severity, absl::StrCat("[", entry.source_basename(), ":", entry.source_line(), "] ", message));
  }

 private:
  const bool everything_;
};

}  // namespace

void TakeTensorFlowLog() {
  static Sink* const sink = new Sink(std::getenv("TF_CPP_MIN_LOG_LEVEL") != nullptr);
  absl::AddLogSink(sink);
  // What absl::InitializeLog() does, which TensorFlow's libraries do not export: until then, all goes to
  // stderr.
  absl::log_internal::SetTimeZone(absl::LocalTimeZone());
  absl::log_internal::SetInitialized();
  absl::SetStderrThreshold(absl::LogSeverityAtLeast::kInfinity);
}

}  // namespace tfipu::serving
