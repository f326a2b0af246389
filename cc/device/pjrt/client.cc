#include "cc/device/pjrt/client.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"

namespace tfipu {
namespace {

PJRT_NamedValue Named(const char* name) {
  auto value = PjrtArgs<PJRT_NamedValue>();
  value.name = name;
  value.name_size = std::strlen(name);
  value.value_size = 1;
  return value;
}

// What is made once for each plugin.
struct Slot {
  std::mutex mutex;
  Client* client = nullptr;
};

Slot& SlotOf(const Plugin* plugin) {
  static std::mutex* const mutex = new std::mutex;
  static auto* const slots = new std::map<const Plugin*, Slot>;
  std::lock_guard<std::mutex> lock(*mutex);
  return (*slots)[plugin];
}

}  // namespace

absl::StatusOr<Client*> Client::Get(Plugin* plugin, const MemoryOptions& memory) {
  Slot& slot = SlotOf(plugin);
  std::lock_guard<std::mutex> lock(slot.mutex);
  if (slot.client != nullptr) return slot.client;
  std::vector<PJRT_NamedValue> options;
  if (memory.preallocate.has_value()) {
    options.push_back(Named("preallocate"));
    options.back().type = PJRT_NamedValue_kBool;
    options.back().bool_value = *memory.preallocate;
  }
  if (memory.memory_fraction.has_value()) {
    options.push_back(Named("memory_fraction"));
    options.back().type = PJRT_NamedValue_kFloat;
    options.back().float_value = *memory.memory_fraction;
  }
  auto args = PjrtArgs<PJRT_Client_Create_Args>();
  args.create_options = options.data();
  args.num_options = options.size();
  absl::Status status = plugin->Call(&PJRT_Api::PJRT_Client_Create, args);
  if (status.ok() && args.client == nullptr) status = absl::InternalError("it made no client");
  std::unique_ptr<Client> client;
  if (status.ok()) {
    client.reset(new Client(plugin, args.client));
    status = client->Describe();
  }
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat("The PJRT plugin '", plugin->path(),
                                                    "' cannot use its devices: ", status.message()));
  }
  return slot.client = client.release();
}

absl::Status Client::Describe() {
  auto devices = PjrtArgs<PJRT_Client_AddressableDevices_Args>();
  devices.client = client_;
  TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Client_AddressableDevices, devices));
  devices_.assign(devices.addressable_devices, devices.addressable_devices + devices.num_addressable_devices);
  if (devices_.empty()) return absl::UnavailableError("there is no device");
  chosen_.resize(devices_.size());

  auto name = PjrtArgs<PJRT_Client_PlatformName_Args>();
  name.client = client_;
  TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Client_PlatformName, name));
  description_.set_platform(std::string(name.platform_name, name.platform_name_size));
  auto version = PjrtArgs<PJRT_Client_PlatformVersion_Args>();
  version.client = client_;
  TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Client_PlatformVersion, version));
  description_.set_platform_version(std::string(version.platform_version, version.platform_version_size));

  auto device = PjrtArgs<PJRT_Device_GetDescription_Args>();
  device.device = devices_[0];
  TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Device_GetDescription, device));
  TFIPU_RETURN_IF_ERROR(DescribeDevice(*plugin_, device.device_description, description_));
  *description_.mutable_plugin() = plugin_->description();
  return absl::OkStatus();
}

absl::Status DescribeDevice(const Plugin& plugin, PJRT_DeviceDescription* description, PjrtTarget& target) {
  auto kind = PjrtArgs<PJRT_DeviceDescription_Kind_Args>();
  kind.device_description = description;
  TFIPU_RETURN_IF_ERROR(plugin.Call(&PJRT_Api::PJRT_DeviceDescription_Kind, kind));
  target.set_device_kind(std::string(kind.device_kind, kind.device_kind_size));
  auto attributes = PjrtArgs<PJRT_DeviceDescription_Attributes_Args>();
  attributes.device_description = description;
  TFIPU_RETURN_IF_ERROR(plugin.Call(&PJRT_Api::PJRT_DeviceDescription_Attributes, attributes));
  for (std::size_t i = 0; i < attributes.num_attributes; ++i) {
    const PJRT_NamedValue& value = attributes.attributes[i];
    if (absl::string_view(value.name, value.name_size) == "compute_capability" &&
        value.type == PJRT_NamedValue_kString) {
      target.set_capability(std::string(value.string_value, value.value_size));
    }
  }
  return absl::OkStatus();
}

Client::Placement::~Placement() {
  std::lock_guard<std::mutex> lock(client_->mutex_);
  for (std::size_t device : devices_) --client_->chosen_[device];
}

std::unique_ptr<Client::Placement> Client::Choose(std::size_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::size_t> order(devices_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [this](std::size_t a, std::size_t b) { return chosen_[a] < chosen_[b]; });
  order.resize(std::min(count, order.size()));
  for (std::size_t device : order) ++chosen_[device];
  return std::make_unique<Placement>(this, std::move(order));
}

}  // namespace tfipu
