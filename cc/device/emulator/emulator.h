// The CPU as a device: emulated IPUs that run ahead-of-time compiled native code.
#ifndef CC_DEVICE_EMULATOR_EMULATOR_H_
#define CC_DEVICE_EMULATOR_EMULATOR_H_

#include "cc/device/device.h"

namespace tfipu {

// The process-wide emulator. Programs of one stage, and Sequential ones, run in the thread that is inside
// Device::Run(); overlapping pipelines have one thread for each further emulated IPU.
Backend& Emulator();

}  // namespace tfipu

#endif  // CC_DEVICE_EMULATOR_EMULATOR_H_
