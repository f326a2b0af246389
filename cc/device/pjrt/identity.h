// Whether a plugin and its devices are those that an executable was compiled for. PJRT itself does not
// protect from others: code of another version is loaded, and runs, or fails, or ends the process.
#ifndef CC_DEVICE_PJRT_IDENTITY_H_
#define CC_DEVICE_PJRT_IDENTITY_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "cc/device/pjrt/plugin.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// The first difference of the plugins, naming both: package and version of the interface, what the plugin
// tells of itself, and the library's hash. InvalidArgument. Needs no device.
absl::Status CheckPlugin(const PjrtTarget& target, const PjrtPlugin& here);

// The same for the devices: platform and its version, kind, capability, and how many.
absl::Status CheckDevices(const PjrtTarget& target, std::size_t needed, const PjrtTarget& here,
                          std::size_t available);

// What the plugin's AbiVersion extension tells of an executable, a serialised proto; empty without that
// extension.
std::string AbiVersionOf(const Plugin& plugin, PJRT_Executable* executable);

// "jax-cuda13-pjrt 0.11.2, PJRT 0.115, SHA-256 0123..."
std::string ToString(const PjrtPlugin& plugin);

}  // namespace tfipu

#endif  // CC_DEVICE_PJRT_IDENTITY_H_
