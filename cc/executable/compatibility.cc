#include "cc/executable/compatibility.h"

#include <cstdlib>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cc/base/sha256.h"
#include "cc/executable/format.h"
#include "google/protobuf/descriptor.pb.h"

namespace tfipu {
namespace {

// What decides whether this code understands an executable: the structure of its header, which the
// compiled-in descriptor holds without comments, and the number that is raised when a meaning changes without
// it.
std::string RuntimeHash() {
  google::protobuf::FileDescriptorProto structure;
  ExecutableHeader::descriptor()->file()->CopyTo(&structure);
  const std::string bytes = structure.SerializeAsString();
  return absl::BytesToHexString(Sha256::Of(absl::StrCat("abi ", kExecutableAbi, "\n", bytes))).substr(0, 16);
}

std::string HashAndVersion(const Build& build) {
  return absl::StrCat(build.runtime_hash(), " (version ", build.runtime_version(), ")");
}

}  // namespace

const Build& RuntimeBuild() {
  static const Build* const current = [] {
    auto* build = new Build;
    // No function of TensorFlow's libraries tells their git version: it is the one of the wheel this was
    // built against.
    build->set_tensorflow_git_version(TFIPU_TENSORFLOW_GIT_VERSION);
    build->set_runtime_version(TFIPU_RUNTIME_VERSION);
    build->set_runtime_hash(RuntimeHash());
    return build;
  }();
  return *current;
}

absl::Status CheckRuntimeHash(const Build& build) {
  const Build& here = RuntimeBuild();
  if (build.runtime_hash() == here.runtime_hash()) return absl::OkStatus();
  return Incompatible(
      "runtime hash", HashAndVersion(build), HashAndVersion(here),
      absl::StrCat(kExportAgain, " TF_POPLAR_FLAGS=--disable_poplar_version_check skips this check."));
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

absl::Status Incompatible(absl::string_view what, absl::string_view found, absl::string_view expected,
                          absl::string_view advice) {
  return absl::InvalidArgumentError(absl::StrCat("The executable cannot run here: it is for ", what, " ",
                                                 found, ", this runtime has ", expected, ". ", advice));
}

}  // namespace tfipu
