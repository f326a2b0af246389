// A PJRT plugin: a vendor's shared library, driven through its plain C interface.
#ifndef CC_DEVICE_PJRT_PLUGIN_H_
#define CC_DEVICE_PJRT_PLUGIN_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cc/base/buffer.h"
#include "cc/executable/executable.pb.h"
#include "xla/pjrt/c/pjrt_c_api.h"

namespace tfipu {

// Where a plugin's library lies, and the package it is of, where that is known.
struct PluginSource {
  std::string path;
  std::string package = "";
  std::string version = "";
};

// A loaded library. Stays loaded until the process ends: vendors' libraries leave threads behind.
// Thread-safe.
//
// Calls go through Call(), which refuses functions that this version of the plugin does not have, and turns
// its errors into Status.
class Plugin {
 public:
  // Loads the library, or returns the one that is loaded. NotFound: no such file. FailedPrecondition: it
  // cannot be loaded, is not a plugin, is of another major version, or the environment holds XLA_FLAGS that
  // would end the process inside it.
  static absl::StatusOr<Plugin*> Load(const PluginSource& source);

  // SHA-256 of the file, 32 bytes; read once for each state of the file. Does not load it.
  static absl::StatusOr<std::string> HashOf(const std::string& path);

  Plugin(const Plugin&) = delete;
  Plugin& operator=(const Plugin&) = delete;

  const std::string& path() const { return path_; }

  // Package, versions and attributes; the hash is left out.
  const PjrtPlugin& description() const { return description_; }

  // plugin.Call(&PJRT_Api::PJRT_Client_Create, args)
  template <typename Function, typename Args>
  absl::Status Call(Function* PJRT_Api::*function, Args& args) const {
    if (!Has(function)) return MissingFunction(typeid(Args).name());
    return ToStatus((api_->*function)(&args));
  }

  // Whether this version of the plugin has the function.
  template <typename Function>
  bool Has(Function* PJRT_Api::*function) const {
    const PJRT_Api* none = nullptr;
    const auto offset = reinterpret_cast<std::uintptr_t>(&(none->*function));
    return offset + sizeof(Function*) <= api_->struct_size && api_->*function != nullptr;
  }

  // Takes the error, which may be null.
  absl::Status ToStatus(PJRT_Error* error) const;

  // The extension of that number, or null.
  const PJRT_Extension_Base* Extension(int type) const;

 private:
  Plugin(std::string path, const PJRT_Api* api) : path_(std::move(path)), api_(api) {}

  absl::Status Describe(const PluginSource& source);
  absl::Status MissingFunction(const char* args_type) const;

  const std::string path_;
  const PJRT_Api* const api_;
  PjrtPlugin description_;
};

// The arguments of a call: zeros, and their size.
template <typename Args>
Args PjrtArgs() {
  Args args{};
  args.struct_size = sizeof(Args);
  return args;
}

// What of the flags in XLA_FLAGS `library` does not name: it would end the process when it reads them. Empty
// when it knows all.
std::string UnknownXlaFlag(absl::string_view flags, absl::string_view library);

}  // namespace tfipu

#endif  // CC_DEVICE_PJRT_PLUGIN_H_
