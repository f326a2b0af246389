#include "cc/device/emulator/ipu_compatibility.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "cc/device/emulator/cpu_features.h"
#include "cc/executable/compatibility.h"
#include "cc/executable/tensorflow_build.h"

namespace tfipu {
namespace {

std::string MajorMinor(absl::string_view version) {
  const std::vector<absl::string_view> parts = absl::StrSplit(version, '.');
  return absl::StrJoin(parts.begin(), parts.begin() + std::min<std::size_t>(parts.size(), 2), ".");
}

}  // namespace

const IpuIdentity& IpuIdentity::Current() {
  static const IpuIdentity* const current = [] {
    auto* identity = new IpuIdentity;
    identity->build = TensorFlowBuild();
    identity->target.set_type(IpuTarget::IPU_MODEL);
    identity->target.set_remote_buffers(true);
    for (const std::string& feature : HostCpuFeatures()) identity->target.add_cpu_features(feature);
    identity->architectures = {"ipu1", "ipu2", "ipu21"};
    return identity;
  }();
  return *current;
}

absl::Status CheckIpuCompatibility(const ExecutableHeader& header, const IpuIdentity& runtime) {
  const Build& build = header.build();
  const Build& here = runtime.build;
  if (MajorMinor(build.tensorflow_version()) != MajorMinor(here.tensorflow_version())) {
    return Incompatible("TensorFlow", build.tensorflow_version(), here.tensorflow_version(), kExportAgain);
  }
  if (build.tensorflow_git_version() != here.tensorflow_git_version()) {
    return Incompatible("TensorFlow git version", build.tensorflow_git_version(),
                        here.tensorflow_git_version(), kExportAgain);
  }

  const IpuTarget& target = header.target().ipu();
  if (target.type() != runtime.target.type()) {
    return Incompatible("target type", IpuTarget::Type_Name(target.type()),
                        IpuTarget::Type_Name(runtime.target.type()),
                        "Export the model for the device that runs it.");
  }
  if (std::find(runtime.architectures.begin(), runtime.architectures.end(), target.architecture()) ==
      runtime.architectures.end()) {
    return Incompatible("architecture", absl::StrCat("'", target.architecture(), "'"),
                        absl::StrJoin(runtime.architectures, ", "), "Export the model for one of them.");
  }
  if (target.remote_buffers() && !runtime.target.remote_buffers()) {
    return Incompatible("a device with", "remote buffers", "none", "Export the model without them.");
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

}  // namespace tfipu
