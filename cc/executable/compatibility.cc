#include "cc/executable/compatibility.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "cc/base/sha256.h"
#include "cc/base/status_macros.h"
#include "cc/executable/cpu_features.h"
#include "cc/executable/format.h"
#include "google/protobuf/descriptor.pb.h"
#include "tensorflow/c/c_api.h"

namespace tfipu {
namespace {

absl::Status Refuse(absl::string_view what, absl::string_view found, absl::string_view expected,
                    absl::string_view advice) {
  return absl::InvalidArgumentError(absl::StrCat("The executable cannot run here: it is for ", what, " ",
                                                 found, ", this runtime has ", expected, ". ", advice));
}

std::string MajorMinor(absl::string_view version) {
  const std::vector<absl::string_view> parts = absl::StrSplit(version, '.');
  return absl::StrJoin(parts.begin(), parts.begin() + std::min<std::size_t>(parts.size(), 2), ".");
}

// What decides whether this code understands an executable: the structure of its header, which the
// compiled-in descriptor holds without comments, and the number that is raised when a meaning changes without
// it.
std::string RuntimeHash() {
  google::protobuf::FileDescriptorProto structure;
  ExecutableHeader::descriptor()->file()->CopyTo(&structure);
  const std::string bytes = structure.SerializeAsString();
  return absl::BytesToHexString(Sha256::Of(absl::StrCat("abi ", kExecutableAbi, "\n", bytes))).substr(0, 16);
}

}  // namespace

const RuntimeIdentity& RuntimeIdentity::Current() {
  static const RuntimeIdentity* const current = [] {
    auto* identity = new RuntimeIdentity;
    identity->build.set_tensorflow_version(TF_Version());
    // No function of TensorFlow's libraries tells their git version: it is the one of the wheel this was
    // built against.
    identity->build.set_tensorflow_git_version(TFIPU_TENSORFLOW_GIT_VERSION);
    identity->build.set_runtime_version(TFIPU_RUNTIME_VERSION);
    identity->build.set_runtime_hash(RuntimeHash());
    identity->target.set_type(Target::IPU_MODEL);
    identity->target.set_remote_buffers(true);
    for (const std::string& feature : HostCpuFeatures()) identity->target.add_cpu_features(feature);
    identity->architectures = {"ipu1", "ipu2", "ipu21"};
    return identity;
  }();
  return *current;
}

absl::Status CheckCompatibility(const ExecutableHeader& header, const RuntimeIdentity& runtime,
                                bool check_runtime_hash) {
  constexpr absl::string_view kExportAgain = "Export the model again with the versions that serve it.";
  const Build& build = header.build();
  const Build& here = runtime.build;
  if (MajorMinor(build.tensorflow_version()) != MajorMinor(here.tensorflow_version())) {
    return Refuse("TensorFlow", build.tensorflow_version(), here.tensorflow_version(), kExportAgain);
  }
  if (build.tensorflow_git_version() != here.tensorflow_git_version()) {
    return Refuse("TensorFlow git version", build.tensorflow_git_version(), here.tensorflow_git_version(),
                  kExportAgain);
  }
  if (check_runtime_hash && build.runtime_hash() != here.runtime_hash()) {
    return Refuse(
        "runtime hash", absl::StrCat(build.runtime_hash(), " (version ", build.runtime_version(), ")"),
        absl::StrCat(here.runtime_hash(), " (version ", here.runtime_version(), ")"),
        absl::StrCat(kExportAgain, " TF_POPLAR_FLAGS=--disable_poplar_version_check skips this check."));
  }

  const Target& target = header.target();
  if (target.type() != runtime.target.type()) {
    return Refuse("target type", Target::Type_Name(target.type()), Target::Type_Name(runtime.target.type()),
                  "Export the model for the device that runs it.");
  }
  if (std::find(runtime.architectures.begin(), runtime.architectures.end(), target.architecture()) ==
      runtime.architectures.end()) {
    return Refuse("architecture", absl::StrCat("'", target.architecture(), "'"),
                  absl::StrJoin(runtime.architectures, ", "), "Export the model for one of them.");
  }
  if (target.remote_buffers() && !runtime.target.remote_buffers()) {
    return Refuse("a device with", "remote buffers", "none", "Export the model without them.");
  }
  std::vector<absl::string_view> missing;
  for (const std::string& feature : target.cpu_features()) {
    const auto& features = runtime.target.cpu_features();
    if (std::find(features.begin(), features.end(), feature) == features.end()) missing.push_back(feature);
  }
  if (!missing.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "The executable cannot run here: its code is for CPU ", target.cpu(), " and uses ",
        absl::StrJoin(missing, ", "), ", which this machine's CPU has not (it has ",
        absl::StrJoin(runtime.target.cpu_features(), ", "), "). Export the model for an older CPU."));
  }
  return absl::OkStatus();
}

bool RuntimeHashCheckEnabled() {
  const char* flags = std::getenv("TF_POPLAR_FLAGS");
  if (flags == nullptr) return true;
  for (absl::string_view flag : absl::StrSplit(flags, absl::ByAnyChar(" \t\n"), absl::SkipEmpty())) {
    if (flag == "--disable_poplar_version_check" || flag == "--disable_poplar_version_check=true")
      return false;
  }
  return true;
}

}  // namespace tfipu
