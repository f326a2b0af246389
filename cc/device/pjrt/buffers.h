// Owners of what a plugin hands out.
#ifndef CC_DEVICE_PJRT_BUFFERS_H_
#define CC_DEVICE_PJRT_BUFFERS_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cc/base/buffer.h"
#include "cc/device/pjrt/plugin.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// The plugin's number of an element type; PJRT_Buffer_Type_INVALID for those it has none of.
PJRT_Buffer_Type ToPjrtType(ElementType type);

// A tensor in a device's memory, freed with its owner. Immutable, but for a donation to a program, after
// which only freeing it is allowed. Thread-safe as far as the plugin is.
class DeviceBuffer {
 public:
  DeviceBuffer(const Plugin* plugin, PJRT_Buffer* buffer) : plugin_(plugin), buffer_(buffer) {}
  ~DeviceBuffer();
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  // Copies a host tensor; `bytes` may go when this returns.
  static absl::StatusOr<std::shared_ptr<DeviceBuffer>> FromHost(const Plugin* plugin, PJRT_Client* client,
                                                                PJRT_Device* device, const TensorSpec& spec,
                                                                ConstBuffer bytes);

  absl::StatusOr<std::shared_ptr<DeviceBuffer>> CopyTo(PJRT_Device* device) const;

  // Starts to copy the tensor, in row-major order, to `to`, which must live until the event is ready.
  absl::StatusOr<PJRT_Event*> CopyToHost(const TensorSpec& spec, MutableBuffer to) const;

  // Where it lies, when that is the host's memory. For buffers that are ready.
  absl::StatusOr<const void*> HostPointer() const;
  bool OnHost() const;

  // InvalidArgument unless it has that type and shape.
  absl::Status CheckSpec(const TensorSpec& spec) const;

  PJRT_Buffer* get() const { return buffer_; }

 private:
  const Plugin* const plugin_;
  PJRT_Buffer* const buffer_;
};

// Calls `done` once with the event's outcome, at once if it is ready, else from a thread of the plugin. Takes
// the event. An event that never becomes ready keeps `done` for ever.
void WhenReady(const Plugin* plugin, PJRT_Event* event, std::function<void(absl::Status)> done);

}  // namespace tfipu

#endif  // CC_DEVICE_PJRT_BUFFERS_H_
