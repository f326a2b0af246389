// What the server's flags say of devices behind PJRT plugins.
#ifndef SERVING_DEVICE_OPTIONS_H_
#define SERVING_DEVICE_OPTIONS_H_

#include "absl/status/statusor.h"
#include "cc/device/pjrt/pjrt_backend.h"
#include "serving/flags.h"

namespace tfipu::serving {

// InvalidArgument names the flag that is wrong. A plugin that is not there is no error: it costs the models
// that need it only, whose states tell of it.
absl::StatusOr<PjrtOptions> PjrtOptionsFrom(const Flags& flags);

}  // namespace tfipu::serving

#endif  // SERVING_DEVICE_OPTIONS_H_
