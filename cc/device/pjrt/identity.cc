#include "cc/device/pjrt/identity.h"

#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/device/pjrt/abi_version_extension.h"
#include "cc/executable/compatibility.h"

namespace tfipu {
namespace {

absl::Status Same(absl::string_view what, const std::string& found, const std::string& here,
                  absl::string_view advice) {
  if (found == here) return absl::OkStatus();
  const auto quoted = [](const std::string& text) { return absl::StrCat("'", text, "'"); };
  return Incompatible(what, quoted(found), quoted(here), advice);
}

constexpr absl::string_view kSamePlugin =
    "Serve it with the plugin that compiled it, or export the model again with the one that serves it.";
constexpr absl::string_view kSameDevice = "Export the model for the device that runs it.";

std::string ApiOf(const PjrtPlugin& plugin) {
  return absl::StrCat(plugin.api_major(), ".", plugin.api_minor());
}

}  // namespace

std::string ToString(const PjrtPlugin& plugin) {
  std::string text = plugin.package().empty() ? "a plugin without a package"
                                              : absl::StrCat(plugin.package(), " ", plugin.version());
  absl::StrAppend(&text, ", PJRT ", ApiOf(plugin));
  if (!plugin.sha256().empty()) absl::StrAppend(&text, ", SHA-256 ", absl::BytesToHexString(plugin.sha256()));
  return text;
}

absl::Status CheckPlugin(const PjrtTarget& target, const PjrtPlugin& here) {
  const PjrtPlugin& plugin = target.plugin();
  // A library that was given by its path is of no known package.
  if (!plugin.package().empty() && !here.package().empty()) {
    TFIPU_RETURN_IF_ERROR(Same("the PJRT plugin", absl::StrCat(plugin.package(), " ", plugin.version()),
                               absl::StrCat(here.package(), " ", here.version()), kSamePlugin));
  }
  TFIPU_RETURN_IF_ERROR(Same("the PJRT interface", ApiOf(plugin), ApiOf(here), kSamePlugin));
  std::set<std::string> names;
  for (const PjrtPlugin* side : {&plugin, &here}) {
    for (const auto& [name, value] : side->attributes()) names.insert(name);
  }
  const auto value_of = [](const PjrtPlugin& side, const std::string& name) {
    const auto found = side.attributes().find(name);
    return found == side.attributes().end() ? std::string() : found->second;
  };
  for (const std::string& name : names) {
    TFIPU_RETURN_IF_ERROR(Same(absl::StrCat("a PJRT plugin with ", name), value_of(plugin, name),
                               value_of(here, name), kSamePlugin));
  }
  return Same("a PJRT plugin with the SHA-256", absl::BytesToHexString(plugin.sha256()),
              absl::BytesToHexString(here.sha256()), kSamePlugin);
}

absl::Status CheckDevices(const PjrtTarget& target, std::size_t needed, const PjrtTarget& here,
                          std::size_t available) {
  TFIPU_RETURN_IF_ERROR(Same("the PJRT platform", target.platform(), here.platform(), kSameDevice));
  // Not known of code that was compiled where the device was not.
  if (!target.platform_version().empty()) {
    TFIPU_RETURN_IF_ERROR(
        Same("the platform version", target.platform_version(), here.platform_version(), kSamePlugin));
  }
  TFIPU_RETURN_IF_ERROR(Same("the compute capability", target.capability(), here.capability(), kSameDevice));
  TFIPU_RETURN_IF_ERROR(Same("the device", target.device_kind(), here.device_kind(), kSameDevice));
  if (needed <= available) return absl::OkStatus();
  return Incompatible(
      "a number of devices of", absl::StrCat(needed), absl::StrCat(available),
      "Export the model with fewer pipeline stages, or serve it where there are more devices.");
}

std::string AbiVersionOf(const Plugin& plugin, PJRT_Executable* executable) {
  const auto* extension =
      reinterpret_cast<const AbiVersionExtension*>(plugin.Extension(kAbiVersionExtension));
  if (extension == nullptr || extension->base.struct_size < sizeof(AbiVersionExtension) ||
      extension->executable_get_abi_version == nullptr ||
      extension->executable_abi_version_to_proto == nullptr ||
      extension->executable_abi_version_destroy == nullptr) {
    return "";
  }
  auto version = PjrtArgs<GetAbiVersionArgs>();
  version.executable = executable;
  if (!plugin.ToStatus(extension->executable_get_abi_version(&version)).ok()) return "";
  std::string bytes;
  auto proto = PjrtArgs<AbiVersionToProtoArgs>();
  proto.abi_version = version.abi_version;
  if (plugin.ToStatus(extension->executable_abi_version_to_proto(&proto)).ok() && proto.bytes != nullptr) {
    bytes.assign(proto.bytes, proto.bytes_size);
    if (proto.deleter != nullptr) proto.deleter(proto.holder);
  }
  auto destroy = PjrtArgs<DestroyAbiVersionArgs>();
  destroy.abi_version = version.abi_version;
  plugin.ToStatus(extension->executable_abi_version_destroy(&destroy)).IgnoreError();
  return bytes;
}

}  // namespace tfipu
