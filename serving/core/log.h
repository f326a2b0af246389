// The server's own log: one line for each event that matters, on standard error.
#ifndef SERVING_CORE_LOG_H_
#define SERVING_CORE_LOG_H_

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tfipu::serving {

enum class Severity { kInfo, kWarning, kError };

// Writes "2026-01-31 12:00:00.123456: I message\n" in one piece; line breaks in the message become spaces. I,
// W or E stands for the severity. Thread-safe.
void WriteLog(Severity severity, absl::string_view message);

template <typename... Parts>
void LogInfo(const Parts&... parts) {
  WriteLog(Severity::kInfo, absl::StrCat(parts...));
}
template <typename... Parts>
void LogWarning(const Parts&... parts) {
  WriteLog(Severity::kWarning, absl::StrCat(parts...));
}
template <typename... Parts>
void LogError(const Parts&... parts) {
  WriteLog(Severity::kError, absl::StrCat(parts...));
}

}  // namespace tfipu::serving

#endif  // SERVING_CORE_LOG_H_
