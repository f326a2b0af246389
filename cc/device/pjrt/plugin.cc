#include "cc/device/pjrt/plugin.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "cc/base/sha256.h"
#include "cc/base/status_macros.h"

namespace tfipu {
namespace {

// A file's bytes, mapped while this lives.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &info_) != 0) {
      status_ = absl::ErrnoToStatus(errno, absl::StrCat("Cannot open the PJRT plugin '", path, "'"));
    } else if (!S_ISREG(info_.st_mode) || info_.st_size == 0) {
      status_ = absl::FailedPreconditionError(
          absl::StrCat("The PJRT plugin '", path, "' is not a shared library: it is empty or not a file."));
    } else {
      void* bytes = mmap(nullptr, info_.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
      if (bytes == MAP_FAILED) {
        status_ = absl::ErrnoToStatus(errno, absl::StrCat("Cannot read the PJRT plugin '", path, "'"));
      } else {
        bytes_ = static_cast<const char*>(bytes);
      }
    }
    if (descriptor >= 0) close(descriptor);
  }
  ~MappedFile() {
    if (bytes_ != nullptr) munmap(const_cast<char*>(bytes_), info_.st_size);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const absl::Status& status() const { return status_; }
  absl::string_view bytes() const { return {bytes_, static_cast<std::size_t>(info_.st_size)}; }
  const struct stat& info() const { return info_; }

 private:
  absl::Status status_;
  struct stat info_ = {};
  const char* bytes_ = nullptr;
};

// What is loaded once for each library. A library that hangs keeps its own lock only.
struct Slot {
  std::mutex mutex;
  Plugin* plugin = nullptr;
};

Slot& SlotOf(const std::string& path) {
  static std::mutex* const mutex = new std::mutex;
  static auto* const slots = new std::map<std::string, Slot>;
  std::lock_guard<std::mutex> lock(*mutex);
  return (*slots)[path];
}

std::string RealPath(const std::string& path) {
  char resolved[PATH_MAX];
  return realpath(path.c_str(), resolved) == nullptr ? path : resolved;
}

absl::Status CheckXlaFlags(const std::string& path) {
  const char* flags = std::getenv("XLA_FLAGS");
  if (flags == nullptr || *flags == '\0') return absl::OkStatus();
  const MappedFile file(path);
  TFIPU_RETURN_IF_ERROR(file.status());
  const std::string unknown = UnknownXlaFlag(flags, file.bytes());
  if (unknown.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("The environment variable XLA_FLAGS holds '", unknown, "', which the PJRT plugin '", path,
                   "' does not know: it would end the process. Unset XLA_FLAGS, or remove that flag."));
}

std::string ValueText(const PJRT_NamedValue& value) {
  switch (value.type) {
    case PJRT_NamedValue_kString:
      return std::string(value.string_value, value.value_size);
    case PJRT_NamedValue_kInt64:
      return absl::StrCat(value.int64_value);
    case PJRT_NamedValue_kInt64List:
      return absl::StrJoin(value.int64_array_value, value.int64_array_value + value.value_size, ".");
    case PJRT_NamedValue_kFloat:
      return absl::StrCat(value.float_value);
    case PJRT_NamedValue_kBool:
      return value.bool_value ? "true" : "false";
    default:
      return "";
  }
}

// Text of others' libraries goes into protos and logs.
std::string Printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f)
      c = c == '\n' ? ' ' : '?';
  }
  return text;
}

}  // namespace

std::string UnknownXlaFlag(absl::string_view flags, absl::string_view library) {
  for (absl::string_view flag : absl::StrSplit(flags, absl::ByAnyChar(" \t\n"), absl::SkipEmpty())) {
    absl::string_view name = flag;
    if (!absl::ConsumePrefix(&name, "--")) return std::string(flag);  // a file of flags, or nonsense
    name = name.substr(0, name.find('='));
    // A library that knows a flag holds its name as a string that ends there.
    if (library.find(absl::StrCat(name, absl::string_view("\0", 1))) == absl::string_view::npos) {
      return std::string(flag);
    }
  }
  return "";
}

absl::StatusOr<Plugin*> Plugin::Load(const PluginSource& source) {
  const std::string path = RealPath(source.path);
  Slot& slot = SlotOf(path);
  std::lock_guard<std::mutex> lock(slot.mutex);
  if (slot.plugin != nullptr) return slot.plugin;

  if (access(path.c_str(), R_OK) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("Cannot open the PJRT plugin '", path, "'"));
  }
  TFIPU_RETURN_IF_ERROR(CheckXlaFlags(path));
  // Plugins have logs of their own, on stderr.
  setenv("TF_CPP_MIN_LOG_LEVEL", "3", /*overwrite=*/0);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();
    return absl::FailedPreconditionError(absl::StrCat(
        "The PJRT plugin '", path, "' cannot be loaded: ", why == nullptr ? "unknown error" : why));
  }
  auto* get_api = reinterpret_cast<const PJRT_Api* (*)()>(dlsym(library, "GetPjrtApi"));
  if (get_api == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("The library '", path, "' is not a PJRT plugin: it has no function GetPjrtApi."));
  }
  const PJRT_Api* api = get_api();
  constexpr std::size_t kVersionEnd = offsetof(PJRT_Api, pjrt_api_version) + sizeof(PJRT_Api_Version);
  if (api == nullptr || api->struct_size < kVersionEnd) {
    return absl::FailedPreconditionError(absl::StrCat("The PJRT plugin '", path, "' has an interface of ",
                                                      api == nullptr ? 0 : api->struct_size,
                                                      " bytes, expected at least ", kVersionEnd));
  }
  auto plugin = std::unique_ptr<Plugin>(new Plugin(path, api));
  TFIPU_RETURN_IF_ERROR(plugin->Describe(source));
  if (api->pjrt_api_version.major_version != PJRT_API_MAJOR) {
    return absl::FailedPreconditionError(absl::StrCat(
        "The PJRT plugin '", path, "' has interface version ", api->pjrt_api_version.major_version, ".",
        api->pjrt_api_version.minor_version, ", expected ", PJRT_API_MAJOR, ".x"));
  }
  if (plugin->Has(&PJRT_Api::PJRT_Plugin_Initialize)) {
    auto args = PjrtArgs<PJRT_Plugin_Initialize_Args>();
    absl::Status status = plugin->Call(&PJRT_Api::PJRT_Plugin_Initialize, args);
    if (!status.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("The PJRT plugin '", path, "' cannot be initialised: ", status.message()));
    }
  }
  return slot.plugin = plugin.release();
}

absl::StatusOr<std::string> Plugin::HashOf(const std::string& path) {
  using Key = std::tuple<dev_t, ino_t, off_t, std::int64_t, std::int64_t>;
  static std::mutex* const mutex = new std::mutex;
  static auto* const known = new std::map<Key, std::string>;
  const MappedFile file(path);
  TFIPU_RETURN_IF_ERROR(file.status());
  const struct stat& info = file.info();
  const Key key{info.st_dev, info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
  // Held while it is read: who comes meanwhile waits for the same answer.
  std::lock_guard<std::mutex> lock(*mutex);
  std::string& hash = (*known)[key];
  if (hash.empty()) hash = Sha256::Of(file.bytes());
  return hash;
}

absl::Status Plugin::ToStatus(PJRT_Error* error) const {
  if (error == nullptr) return absl::OkStatus();
  std::string message = "the plugin does not say why";
  if (Has(&PJRT_Api::PJRT_Error_Message)) {
    auto args = PjrtArgs<PJRT_Error_Message_Args>();
    args.error = error;
    api_->PJRT_Error_Message(&args);
    if (args.message != nullptr) message = Printable(std::string(args.message, args.message_size));
  }
  auto code = absl::StatusCode::kUnknown;
  if (Has(&PJRT_Api::PJRT_Error_GetCode)) {
    auto args = PjrtArgs<PJRT_Error_GetCode_Args>();
    args.error = error;
    PJRT_Error* second = api_->PJRT_Error_GetCode(&args);
    if (second == nullptr && args.code > 0 && args.code <= 16)
      code = static_cast<absl::StatusCode>(args.code);
  }
  if (Has(&PJRT_Api::PJRT_Error_Destroy)) {
    auto args = PjrtArgs<PJRT_Error_Destroy_Args>();
    args.error = error;
    api_->PJRT_Error_Destroy(&args);
  }
  return absl::Status(code, message);
}

const PJRT_Extension_Base* Plugin::Extension(int type) const {
  const PJRT_Extension_Base* extension = api_->extension_start;
  // A list of others' making: it has an end.
  for (int i = 0; extension != nullptr && i < 1000; ++i, extension = extension->next) {
    if (static_cast<int>(extension->type) == type) return extension;
  }
  return nullptr;
}

absl::Status Plugin::Describe(const PluginSource& source) {
  description_.set_package(source.package);
  description_.set_version(source.version);
  description_.set_api_major(api_->pjrt_api_version.major_version);
  description_.set_api_minor(api_->pjrt_api_version.minor_version);
  if (!Has(&PJRT_Api::PJRT_Plugin_Attributes)) return absl::OkStatus();
  auto args = PjrtArgs<PJRT_Plugin_Attributes_Args>();
  if (absl::Status status = Call(&PJRT_Api::PJRT_Plugin_Attributes, args); !status.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("The PJRT plugin '", path_, "' does not tell its attributes: ", status.message()));
  }
  for (std::size_t i = 0; i < args.num_attributes && args.attributes != nullptr; ++i) {
    const PJRT_NamedValue& value = args.attributes[i];
    (*description_.mutable_attributes())[Printable(std::string(value.name, value.name_size))] =
        Printable(ValueText(value));
  }
  return absl::OkStatus();
}

absl::Status Plugin::MissingFunction(const char* args_type) const {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(args_type, nullptr, nullptr, &status),
                                                    std::free);
  const absl::string_view function = name == nullptr ? args_type : name.get();
  return absl::UnimplementedError(absl::StrCat("The PJRT plugin '", path_, "' of interface version ",
                                               description_.api_major(), ".", description_.api_minor(),
                                               " does not have ", absl::StripSuffix(function, "_Args"), "."));
}

}  // namespace tfipu
