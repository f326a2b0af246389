#include "cc/device/emulator/emulator.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/device/emulator/emulated_device.h"
#include "cc/device/emulator/floating_point.h"
#include "cc/device/emulator/ipu_compatibility.h"
#include "cc/device/emulator/native_code.h"
#include "cc/device/emulator/plan.h"
#include "cc/executable/row_variants.h"

namespace tfipu {
namespace {

absl::Status Named(const absl::Status& status, const Executable& executable, int stage) {
  return absl::Status(status.code(),
                      absl::StrCat("Stage ", stage, " '", executable.header().stages(stage).name(), "' of ",
                                   executable.path(), ": ", status.message()));
}

// Runs a stage on zeros and its weights: XLA sets things up in the first call, and weights are read from the
// file.
absl::Status WarmUp(const Executable& executable, const LoadedStages& loaded, int s) {
  const NativeCode& code = *loaded.code[s];
  const StagePlan& stage = loaded.plan.stages[s];
  const ExecutableHeader& header = executable.header();
  AlignedBuffer zeros(stage.argument_sizes.empty()
                          ? 0
                          : *std::max_element(stage.argument_sizes.begin(), stage.argument_sizes.end()));
  std::memset(zeros.data(), 0, zeros.size());
  std::vector<ConstBuffer> arguments;
  for (std::size_t i = 0; i < stage.arguments.size(); ++i) {
    const ValueRef& value = stage.arguments[i];
    arguments.push_back(value.source() == ValueRef::WEIGHT
                            ? executable.blob(header.weights(value.index()).blob())
                            : ConstBuffer(zeros.data(), stage.argument_sizes[i]));
  }
  std::vector<AlignedBuffer> buffers;
  std::vector<MutableBuffer> results;
  for (std::size_t size : stage.result_sizes) results.push_back(buffers.emplace_back(size).span());
  const AlignedBuffer temp(code.temp_size());
  return code.Run(arguments, results, temp.span());
}

// `header` is the executable's, or that of a variant.
absl::StatusOr<LoadedStages> LoadStages(const Executable& executable, const ExecutableHeader& header,
                                        std::int64_t rows) {
  LoadedStages loaded;
  loaded.rows = rows;
  TFIPU_ASSIGN_OR_RETURN(loaded.plan, Plan::Make(header));
  for (int s = 0; s < header.stages_size(); ++s) {
    const StagePlan& stage = loaded.plan.stages[s];
    auto code =
        NativeCode::Load(executable.blob(header.stages(s).code()), stage.argument_sizes, stage.result_sizes);
    if (!code.ok()) return Named(code.status(), executable, s);
    loaded.code.push_back(*std::move(code));
    if (!loaded.code[s]->always_ends()) continue;
    if (absl::Status status = WarmUp(executable, loaded, s); !status.ok()) {
      return Named(status, executable, s);
    }
  }
  return loaded;
}

class EmulatedProgram : public Program {
 public:
  explicit EmulatedProgram(std::shared_ptr<const LoadedProgram> loaded) : loaded_(std::move(loaded)) {}

  const Executable& executable() const override { return *loaded_->executable; }

  ExecutionMode execution_mode() const override {
    const ExecutableHeader& header = executable().header();
    return header.hold() == 0 && header.carried().empty() ? ExecutionMode::kStepByStep
                                                          : ExecutionMode::kWithoutBreak;
  }

  absl::StatusOr<std::unique_ptr<Device>> CreateDevice(
      absl::Span<const ConstBuffer> startup_inputs) override {
    return MakeEmulatedDevice(loaded_, startup_inputs);
  }

 private:
  const std::shared_ptr<const LoadedProgram> loaded_;
};

class EmulatorBackend : public Backend {
 public:
  Target::KindCase kind() const override { return Target::kIpu; }

  absl::Status Check(const ExecutableHeader& header) override {
    return CheckIpuCompatibility(header, IpuIdentity::Current());
  }

  absl::StatusOr<std::shared_ptr<Program>> Load(std::shared_ptr<const Executable> executable) override {
    const ExecutableHeader& header = executable->header();
    auto loaded = std::make_shared<LoadedProgram>();
    loaded->executable = executable;
    const ScopedFlushDenormals flush;
    TFIPU_ASSIGN_OR_RETURN(loaded->whole, LoadStages(*executable, header, 0));
    for (const RowVariant& variant : header.row_variants()) {
      TFIPU_ASSIGN_OR_RETURN(LoadedStages stages,
                             LoadStages(*executable, HeaderOfVariant(header, variant), variant.rows()));
      loaded->variants.push_back(std::move(stages));
    }
    return std::make_shared<EmulatedProgram>(std::move(loaded));
  }

  std::vector<Offer> Offers() override {
    const IpuIdentity& identity = IpuIdentity::Current();
    std::vector<Offer> offers;
    for (const std::string& architecture : identity.architectures) {
      IpuTarget& target = *offers.emplace_back().target.mutable_ipu();
      target = identity.target;
      target.set_architecture(architecture);
    }
    return offers;
  }
};

}  // namespace

Backend& Emulator() {
  static EmulatorBackend* const emulator = new EmulatorBackend;
  return *emulator;
}

}  // namespace tfipu
