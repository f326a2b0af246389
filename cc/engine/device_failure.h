// What a device's failure means for the calls of its engine.
#ifndef CC_ENGINE_DEVICE_FAILURE_H_
#define CC_ENGINE_DEVICE_FAILURE_H_

#include <string>

#include "absl/status/status.h"
#include "cc/device/device.h"

namespace tfipu {

// Whether a reset makes the device usable again.
bool Recoverable(const DeviceFailure& failure);

// What the calls get. Names the engine, the reason and what happens next.
absl::Status StatusOf(const DeviceFailure& failure, const std::string& engine);

}  // namespace tfipu

#endif  // CC_ENGINE_DEVICE_FAILURE_H_
