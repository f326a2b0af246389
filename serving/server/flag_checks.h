// Which flags go together.
#ifndef SERVING_SERVER_FLAG_CHECKS_H_
#define SERVING_SERVER_FLAG_CHECKS_H_

#include "absl/status/status.h"
#include "serving/flags.h"

namespace tfipu::serving {

// What the flags of addresses mean by a port that the system chooses.
inline constexpr int kAnyPort = -1;

// InvalidArgument names the flag that is wrong. What TensorFlow Serving ignores is no error.
absl::Status CheckFlags(const Flags& flags);

// A line in the log for each flag that is set in vain: as another takes its place, or it means nothing here.
void LogFlagsWithoutEffect(const Flags& flags);

}  // namespace tfipu::serving

#endif  // SERVING_SERVER_FLAG_CHECKS_H_
