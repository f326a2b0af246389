#include "serving/core/log.h"

#include <unistd.h>

#include <algorithm>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace tfipu::serving {

void WriteLog(Severity severity, absl::string_view message) {
  static constexpr char kLetters[] = {'I', 'W', 'E'};
  std::string line =
      absl::StrCat(absl::FormatTime("%Y-%m-%d %H:%M:%E6S", absl::Now(), absl::LocalTimeZone()), ": ",
                   absl::string_view(&kLetters[static_cast<int>(severity)], 1), " ", message);
  std::replace(line.begin(), line.end(), '\n', ' ');
  line.push_back('\n');
  // Nothing is to be done about a log that cannot be written.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace tfipu::serving
