// The backends of this build. A new kind of device is a folder beside this one and a line in the source of
// this function.
#ifndef CC_DEVICE_INSTALLED_INSTALLED_BACKENDS_H_
#define CC_DEVICE_INSTALLED_INSTALLED_BACKENDS_H_

#include "cc/device/backends.h"

namespace tfipu {

// Thread-safe.
const Backends& InstalledBackends();

}  // namespace tfipu

#endif  // CC_DEVICE_INSTALLED_INSTALLED_BACKENDS_H_
