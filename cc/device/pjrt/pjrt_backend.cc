#include "cc/device/pjrt/pjrt_backend.h"

#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "cc/base/status_macros.h"
#include "cc/device/pjrt/identity.h"
#include "cc/device/pjrt/pjrt_program.h"
#include "cc/executable/compatibility.h"

namespace tfipu {
namespace {

// Libraries of the environment: paths with colons between them.
constexpr char kPluginVariable[] = "TFIPU_DEVICE_PLUGIN";

// Calls into a plugin may never return. Then the thread that makes them is given up, and the caller goes on.
template <typename Value>
absl::StatusOr<Value> Within(absl::Duration timeout, const std::string& what,
                             std::function<absl::StatusOr<Value>()> function) {
  struct Shared {
    std::mutex mutex;
    std::condition_variable done;
    std::optional<absl::StatusOr<Value>> result;
  };
  auto shared = std::make_shared<Shared>();
  try {
    std::thread([shared, function = std::move(function)] {
      absl::StatusOr<Value> result = function();
      std::lock_guard<std::mutex> lock(shared->mutex);
      shared->result = std::move(result);
      shared->done.notify_all();
    }).detach();
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(absl::StrCat("No thread could be started: ", error.what()));
  }
  std::unique_lock<std::mutex> lock(shared->mutex);
  if (!shared->done.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                             [&] { return shared->result.has_value(); })) {
    return absl::DeadlineExceededError(absl::StrCat("The PJRT plugin has not answered within ",
                                                    absl::FormatDuration(timeout), " while ", what, "."));
  }
  return *std::move(shared->result);
}

// A plugin that an executable may take, as far as it can be described without a device.
struct Candidate {
  Plugin* plugin = nullptr;
  PjrtPlugin description;  // with its hash
};

absl::StatusOr<Candidate> Open(const PluginSource& source) {
  Candidate candidate;
  TFIPU_ASSIGN_OR_RETURN(const std::string hash, Plugin::HashOf(source.path));
  TFIPU_ASSIGN_OR_RETURN(candidate.plugin, Plugin::Load(source));
  candidate.description = candidate.plugin->description();
  candidate.description.set_sha256(hash);
  return candidate;
}

class PjrtBackend : public Backend {
 public:
  explicit PjrtBackend(PjrtOptions options) : options_(std::move(options)) {}

  Target::KindCase kind() const override { return Target::kPjrt; }

  absl::Status Check(const ExecutableHeader& header) override { return Prepare(header).status(); }

  absl::StatusOr<std::shared_ptr<Program>> Load(std::shared_ptr<const Executable> executable) override {
    TFIPU_ASSIGN_OR_RETURN(Client * client, Prepare(executable->header()));
    const PjrtOptions options = Options();
    int steps = options.steps_in_flight;
    if (steps == 0) steps = client->description().platform() == "cpu" ? 1 : 4;
    return Within<std::shared_ptr<Program>>(options.load_timeout,
                                            absl::StrCat("loading '", executable->path(), "'"),
                                            [executable, client, steps, timeout = options.step_timeout] {
                                              return LoadPjrtProgram(executable, client, steps, timeout);
                                            });
  }

  std::vector<Offer> Offers() override {
    std::vector<Offer> offers;
    const PjrtOptions options = Options();
    for (const PluginSource& source : options.plugins) offers.push_back(OfferOf(source, options));
    return offers;
  }

  void Configure(const PjrtOptions& options) {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<PluginSource> plugins = std::move(options_.plugins);
    options_ = options;
    options_.plugins = std::move(plugins);
    for (const PluginSource& source : options.plugins) {
      AddLocked(source);
      // Its hash takes a second or more: it is begun before the first model asks for it.
      try {
        std::thread([path = source.path] { Plugin::HashOf(path).IgnoreError(); }).detach();
      } catch (const std::system_error&) {
        // Then the first model waits for it.
      }
    }
  }

  void Add(const PluginSource& source) {
    std::lock_guard<std::mutex> lock(mutex_);
    AddLocked(source);
  }

 private:
  void AddLocked(const PluginSource& source) {
    for (const PluginSource& known : options_.plugins) {
      if (known.path == source.path) return;
    }
    options_.plugins.push_back(source);
  }

  PjrtOptions Options() {
    std::lock_guard<std::mutex> lock(mutex_);
    return options_;
  }

  // The client of the plugin that compiled the executable, if that is here and has the devices it needs.
  absl::StatusOr<Client*> Prepare(const ExecutableHeader& header) {
    const PjrtOptions options = Options();
    auto client = Within<Client*>(options.load_timeout, "starting",
                                  [options, target = header.target()] { return ClientFor(options, target); });
    if (client.ok() || options.plugins.empty()) return client;
    const PjrtTarget& target = header.target().pjrt();
    const std::string here = absl::StrJoin(options.plugins, ", ", [](std::string* out, const auto& plugin) {
      absl::StrAppend(out, plugin.path);
    });
    return absl::Status(
        client.status().code(),
        absl::StrCat(client.status().message(), " (It was exported for '", target.name(), "', with ",
                     ToString(target.plugin()), "; the plugins here are ", here, ".)"));
  }

  static absl::StatusOr<Client*> ClientFor(const PjrtOptions& options, const Target& target) {
    TFIPU_ASSIGN_OR_RETURN(const Candidate candidate, Choose(options, target.pjrt()));
    TFIPU_RETURN_IF_ERROR(CheckPlugin(target.pjrt(), candidate.description));
    TFIPU_ASSIGN_OR_RETURN(Client * client, Client::Get(candidate.plugin, options.memory));
    TFIPU_RETURN_IF_ERROR(
        CheckDevices(target.pjrt(), target.num_ipus(), client->description(), client->devices().size()));
    return client;
  }

  // The plugin with the executable's hash; else, so that the difference can be named, the one most like it.
  static absl::StatusOr<Candidate> Choose(const PjrtOptions& options, const PjrtTarget& target) {
    const PjrtPlugin& wanted = target.plugin();
    if (options.plugins.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "The executable is for '", target.name(), "' (PJRT platform ", target.platform(), ", device '",
          target.device_kind(), "') and needs the PJRT plugin that compiled it (", ToString(wanted),
          "), but this process has none. Give the server --device_plugin=PATH, or set ", kPluginVariable,
          "=PATH."));
    }
    // Nothing of a library runs before its hash is known to be right, when one of them has it.
    std::vector<std::string> problems;
    const PluginSource* same_package = nullptr;
    for (const PluginSource& source : options.plugins) {
      const absl::StatusOr<std::string> hash = Plugin::HashOf(source.path);
      if (hash.ok() && *hash == wanted.sha256()) return Open(source);
      if (!hash.ok()) problems.emplace_back(hash.status().message());
      if (hash.ok() && (same_package == nullptr || source.package == wanted.package()))
        same_package = &source;
    }
    if (same_package == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("The executable needs the PJRT plugin that compiled it (", ToString(wanted),
                       "), but: ", absl::StrJoin(problems, "; ")));
    }
    auto candidate = Open(*same_package);
    if (candidate.ok()) return candidate;
    return absl::FailedPreconditionError(absl::StrCat(
        "The executable needs the PJRT plugin that compiled it (", ToString(wanted), "), but here is '",
        same_package->path, "', which is another one: ", candidate.status().message()));
  }

  static Offer OfferOf(const PluginSource& source, const PjrtOptions& options) {
    Offer offer;
    PjrtTarget& target = *offer.target.mutable_pjrt();
    target.mutable_plugin()->set_package(source.package);
    target.mutable_plugin()->set_version(source.version);
    const absl::StatusOr<Candidate> candidate = Open(source);
    if (!candidate.ok()) {
      offer.status = candidate.status();
      return offer;
    }
    *target.mutable_plugin() = candidate->description;
    const absl::StatusOr<Client*> client = Within<Client*>(
        options.load_timeout, "starting",
        [plugin = candidate->plugin, memory = options.memory] { return Client::Get(plugin, memory); });
    if (!client.ok()) {
      offer.status = client.status();
      return offer;
    }
    target = (*client)->description();
    *target.mutable_plugin() = candidate->description;
    offer.target.set_num_ipus((*client)->devices().size());
    return offer;
  }

  std::mutex mutex_;
  PjrtOptions options_;
};

PjrtBackend& ProcessBackend() {
  static PjrtBackend* const backend = [] {
    PjrtOptions options;
    if (const char* paths = std::getenv(kPluginVariable); paths != nullptr) {
      for (absl::string_view path : absl::StrSplit(paths, ':', absl::SkipEmpty())) {
        options.plugins.push_back({std::string(path)});
      }
    }
    return new PjrtBackend(std::move(options));
  }();
  return *backend;
}

}  // namespace

std::unique_ptr<Backend> MakePjrtBackend(PjrtOptions options) {
  return std::make_unique<PjrtBackend>(std::move(options));
}

Backend& Pjrt() { return ProcessBackend(); }

void ConfigurePjrt(const PjrtOptions& options) { ProcessBackend().Configure(options); }

void AddPjrtPlugin(const PluginSource& source) { ProcessBackend().Add(source); }

}  // namespace tfipu
