// The devices of a plugin in this process.
#ifndef CC_DEVICE_PJRT_CLIENT_H_
#define CC_DEVICE_PJRT_CLIENT_H_

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cc/device/pjrt/plugin.h"

namespace tfipu {

// What a client may take of its devices' memory. Not set: as the plugin does by itself.
struct MemoryOptions {
  std::optional<bool> preallocate = std::nullopt;
  std::optional<float> memory_fraction = std::nullopt;
};

// A plugin's client: one for each plugin and process, which ends with the process, as its devices cannot be
// taken twice. Thread-safe.
class Client {
 public:
  // The client of the plugin, made now if there is none yet; a failure is not kept. Takes seconds.
  static absl::StatusOr<Client*> Get(Plugin* plugin, const MemoryOptions& memory);

  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const Plugin& plugin() const { return *plugin_; }
  PJRT_Client* get() const { return client_; }

  // Those of this process, at least one.
  const std::vector<PJRT_Device*>& devices() const { return devices_; }

  // Platform, versions, kind and capability of the first device, and what the plugin is; without its hash.
  const PjrtTarget& description() const { return description_; }

  // Devices that were chosen for a copy of a program, given back when this is dropped.
  class Placement {
   public:
    Placement(Client* client, std::vector<std::size_t> devices)
        : client_(client), devices_(std::move(devices)) {}
    ~Placement();
    Placement(const Placement&) = delete;
    Placement& operator=(const Placement&) = delete;
    PJRT_Device* device(std::size_t i) const { return client_->devices_[devices_[i]]; }

   private:
    Client* const client_;
    const std::vector<std::size_t> devices_;  // indices into Client::devices()
  };

  // The `count` devices that the fewest have chosen; there are as many.
  std::unique_ptr<Placement> Choose(std::size_t count);

 private:
  Client(Plugin* plugin, PJRT_Client* client) : plugin_(plugin), client_(client) {}
  absl::Status Describe();

  Plugin* const plugin_;
  PJRT_Client* const client_;
  std::vector<PJRT_Device*> devices_;
  PjrtTarget description_;
  std::mutex mutex_;
  std::vector<int> chosen_;  // how often, for each device
};

// Kind and capability of a device, into the target.
absl::Status DescribeDevice(const Plugin& plugin, PJRT_DeviceDescription* description, PjrtTarget& target);

}  // namespace tfipu

#endif  // CC_DEVICE_PJRT_CLIENT_H_
