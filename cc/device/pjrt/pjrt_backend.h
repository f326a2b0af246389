// Devices behind PJRT plugins: GPUs, TPUs, and CPUs for tests.
#ifndef CC_DEVICE_PJRT_PJRT_BACKEND_H_
#define CC_DEVICE_PJRT_PJRT_BACKEND_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cc/device/device.h"
#include "cc/device/pjrt/client.h"
#include "cc/device/pjrt/plugin.h"

namespace tfipu {

struct PjrtOptions {
  // Libraries that may be used; an executable takes the one it was compiled by. None is loaded before the
  // first executable needs it.
  std::vector<PluginSource> plugins;
  MemoryOptions memory;
  // Steps that one device works on at a time. 0: one on the host's own CPU, which is run by the thread that
  // calls; four elsewhere, so that copies and computation overlap.
  int steps_in_flight = 0;
  // A step that takes longer has failed: its calls get an error, and the model's later ones, too.
  absl::Duration step_timeout = absl::Minutes(1);
  // The same for loading, from the start of the plugin to the first step.
  absl::Duration load_timeout = absl::Minutes(10);
};

// A backend of its own, for tests and tools. Plugins and their clients are shared by all of a process.
std::unique_ptr<Backend> MakePjrtBackend(PjrtOptions options);

// The process-wide backend.
Backend& Pjrt();

// Sets its options, but for plugins, which are added to those it has. What was loaded before keeps the old
// ones. Thread-safe.
void ConfigurePjrt(const PjrtOptions& options);

// Adds a plugin to the process-wide backend, behind those it has.
void AddPjrtPlugin(const PluginSource& source);

}  // namespace tfipu

#endif  // CC_DEVICE_PJRT_PJRT_BACKEND_H_
