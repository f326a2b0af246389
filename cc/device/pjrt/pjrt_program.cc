#include "cc/device/pjrt/pjrt_program.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "cc/base/status_macros.h"
#include "cc/device/pjrt/pjrt_device.h"
#include "cc/executable/row_variants.h"

namespace tfipu {
namespace {

// A description of a loaded executable, freed with its owner.
class ExecutableInfo {
 public:
  ExecutableInfo(const Plugin* plugin, PJRT_Executable* executable)
      : plugin_(plugin), executable_(executable) {}
  ~ExecutableInfo() {
    auto args = PjrtArgs<PJRT_Executable_Destroy_Args>();
    args.executable = executable_;
    plugin_->Call(&PJRT_Api::PJRT_Executable_Destroy, args).IgnoreError();
  }

  // A result of another type and the right size would be taken for the expected one.
  absl::Status CheckResults(const Stage& stage) const {
    auto count = PjrtArgs<PJRT_Executable_NumOutputs_Args>();
    count.executable = executable_;
    TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Executable_NumOutputs, count));
    if (count.num_outputs != stage.results_size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("its code has ", count.num_outputs, " results, expected ", stage.results_size()));
    }
    auto types = PjrtArgs<PJRT_Executable_OutputElementTypes_Args>();
    types.executable = executable_;
    TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Executable_OutputElementTypes, types));
    auto shapes = PjrtArgs<PJRT_Executable_OutputDimensions_Args>();
    shapes.executable = executable_;
    TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Executable_OutputDimensions, shapes));
    if (types.num_output_types != count.num_outputs || shapes.num_outputs != count.num_outputs) {
      return absl::InvalidArgumentError("the plugin tells types or shapes for another number of results");
    }
    const std::int64_t* dims = shapes.dims;
    for (int i = 0; i < stage.results_size(); ++i) {
      const TensorSpec& spec = stage.results(i);
      const absl::Span<const std::int64_t> found(dims, shapes.dim_sizes[i]);
      dims += found.size();
      if (types.output_types[i] == ToPjrtType(spec.type()) &&
          std::equal(found.begin(), found.end(), spec.dims().begin(), spec.dims().end())) {
        continue;
      }
      return absl::InvalidArgumentError(
          absl::StrCat("result ", i, " of its code is of the plugin's type ", types.output_types[i],
                       " and shape [", absl::StrJoin(found, ","), "], expected ", ToString(spec),
                       ", which is its type ", ToPjrtType(spec.type())));
    }
    return absl::OkStatus();
  }

 private:
  const Plugin* const plugin_;
  PJRT_Executable* const executable_;
};

// Gives a device some steps on zeros, each with the rows of another form of the program.
class ZeroSteps : public StepSource {
 public:
  explicit ZeroSteps(const PjrtLoaded& loaded) {
    AddStep(loaded.whole.header, 0);
    for (const PjrtStages& variant : loaded.variants) AddStep(variant.header, variant.rows);
  }

  Step* NextStep() override { return next_ < steps_.size() ? &steps_[next_++] : nullptr; }
  void StepDone(Step*) override {}
  void RunEnded() override {}

 private:
  void AddStep(const ExecutableHeader& header, std::int64_t rows) {
    Step step;
    step.computed_rows = rows;
    for (const TensorSpec& spec : header.infeeds()) step.infeeds.push_back(Zeros(spec));
    for (const TensorSpec& spec : header.outfeeds()) step.outfeeds.push_back(Zeros(spec));
    steps_.push_back(std::move(step));
  }

  MutableBuffer Zeros(const TensorSpec& spec) {
    const AlignedBuffer& buffer = buffers_.emplace_back(*TensorSize(spec));
    std::memset(buffer.data(), 0, buffer.size());
    return buffer.span();
  }

  std::vector<AlignedBuffer> buffers_;
  std::vector<Step> steps_;
  std::size_t next_ = 0;
};

absl::StatusOr<PjrtStages> LoadStages(const Executable& executable, Client* client,
                                      const ExecutableHeader& header, std::int64_t rows) {
  PjrtStages loaded;
  loaded.rows = rows;
  loaded.header = header;
  for (int s = 0; s < header.stages_size(); ++s) {
    const Stage& stage = header.stages(s);
    auto code = LoadedStage::Load(client, stage, executable.blob(stage.code()));
    if (!code.ok()) {
      return absl::Status(code.status().code(),
                          absl::StrCat("Stage ", s, " '", stage.name(), "' of ", executable.path(), ": ",
                                       code.status().message()));
    }
    loaded.stages.push_back(*std::move(code));
  }
  return loaded;
}

class PjrtProgram : public Program {
 public:
  explicit PjrtProgram(std::shared_ptr<PjrtLoaded> loaded) : loaded_(std::move(loaded)) {}

  const Executable& executable() const override { return *loaded_->executable; }

  // Where several steps are in flight, a thread of their own keeps them coming.
  ExecutionMode execution_mode() const override {
    const bool alone = loaded_->steps_in_flight == 1 && executable().header().carried().empty();
    return alone ? ExecutionMode::kStepByStep : ExecutionMode::kWithoutBreak;
  }

  absl::StatusOr<std::unique_ptr<Device>> CreateDevice(
      absl::Span<const ConstBuffer> startup_inputs) override {
    return PjrtDevice::Create(loaded_, startup_inputs);
  }

 private:
  const std::shared_ptr<PjrtLoaded> loaded_;
};

absl::Status WarmUp(const std::shared_ptr<PjrtLoaded>& loaded) {
  const ExecutableHeader& header = loaded->whole.header;
  for (const Stage& stage : header.stages()) {
    if (stage.may_not_end()) return absl::OkStatus();
  }
  std::vector<AlignedBuffer> zeros;
  std::vector<ConstBuffer> startup_inputs;
  for (const TensorSpec& spec : header.startup_inputs()) {
    zeros.emplace_back(*TensorSize(spec));
    std::memset(zeros.back().data(), 0, zeros.back().size());
    startup_inputs.push_back(zeros.back().span());
  }
  TFIPU_ASSIGN_OR_RETURN(std::unique_ptr<PjrtDevice> device, PjrtDevice::Create(loaded, startup_inputs));
  device->CheckTypesOfResults();
  ZeroSteps steps(*loaded);
  if (const std::optional<DeviceFailure> failure = device->Run(steps)) {
    return absl::FailedPreconditionError(
        absl::StrCat(loaded->executable->path(), " was loaded, but does not run: ", failure->reason));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<LoadedStage>> LoadedStage::Load(Client* client, const Stage& stage,
                                                               ConstBuffer code) {
  const Plugin& plugin = client->plugin();
  auto args = PjrtArgs<PJRT_Executable_DeserializeAndLoad_Args>();
  args.client = client->get();
  args.serialized_executable = reinterpret_cast<const char*>(code.data());
  args.serialized_executable_size = code.size();
  if (absl::Status status = plugin.Call(&PJRT_Api::PJRT_Executable_DeserializeAndLoad, args); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("the plugin cannot load its code: ", status.message()));
  }
  if (args.loaded_executable == nullptr) return absl::InternalError("the plugin loaded nothing");
  std::unique_ptr<LoadedStage> loaded(new LoadedStage(client, args.loaded_executable, stage.results_size()));
  auto info = PjrtArgs<PJRT_LoadedExecutable_GetExecutable_Args>();
  info.loaded_executable = args.loaded_executable;
  TFIPU_RETURN_IF_ERROR(plugin.Call(&PJRT_Api::PJRT_LoadedExecutable_GetExecutable, info));
  TFIPU_RETURN_IF_ERROR(ExecutableInfo(&plugin, info.executable).CheckResults(stage));
  return loaded;
}

LoadedStage::~LoadedStage() {
  auto args = PjrtArgs<PJRT_LoadedExecutable_Destroy_Args>();
  args.executable = executable_;
  client_->plugin().Call(&PJRT_Api::PJRT_LoadedExecutable_Destroy, args).IgnoreError();
}

absl::StatusOr<PJRT_Event*> LoadedStage::Execute(PJRT_Device* device,
                                                 const std::vector<PJRT_Buffer*>& arguments,
                                                 const std::vector<std::int64_t>& kept,
                                                 std::vector<std::shared_ptr<DeviceBuffer>>& results) const {
  const Plugin* plugin = &client_->plugin();
  auto options = PjrtArgs<PJRT_ExecuteOptions>();
  options.non_donatable_input_indices = kept.data();
  options.num_non_donatable_input_indices = kept.size();
  PJRT_Buffer* const* argument_list = arguments.data();
  std::vector<PJRT_Buffer*> outputs(result_count_);
  PJRT_Buffer** output_list = outputs.data();
  PJRT_Event* complete = nullptr;
  auto args = PjrtArgs<PJRT_LoadedExecutable_Execute_Args>();
  args.executable = executable_;
  args.options = &options;
  args.argument_lists = &argument_list;
  args.num_devices = 1;
  args.num_args = arguments.size();
  args.output_lists = &output_list;
  args.device_complete_events = &complete;
  args.execute_device = device;
  TFIPU_RETURN_IF_ERROR(plugin->Call(&PJRT_Api::PJRT_LoadedExecutable_Execute, args));
  bool missing = false;
  for (PJRT_Buffer* output : outputs) {
    missing |= output == nullptr;
    results.push_back(output == nullptr ? nullptr : std::make_shared<DeviceBuffer>(plugin, output));
  }
  if (missing) {
    if (complete != nullptr) WhenReady(plugin, complete, [](absl::Status) {});
    return absl::InternalError("the plugin gave fewer results than its code has");
  }
  return complete;
}

absl::StatusOr<std::shared_ptr<DeviceBuffer>> WeightStore::Get(std::uint32_t weight, PJRT_Device* device) {
  const Weight& entry = executable_->header().weights(weight);
  std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<DeviceBuffer>& buffer = buffers_[{weight, device}];
  if (buffer == nullptr) {
    TFIPU_ASSIGN_OR_RETURN(buffer, DeviceBuffer::FromHost(&client_->plugin(), client_->get(), device,
                                                          entry.spec(), executable_->blob(entry.blob())));
  }
  return buffer;
}

absl::StatusOr<std::shared_ptr<Program>> LoadPjrtProgram(std::shared_ptr<const Executable> executable,
                                                         Client* client, int steps_in_flight,
                                                         absl::Duration step_timeout) {
  const ExecutableHeader& header = executable->header();
  auto loaded = std::make_shared<PjrtLoaded>();
  loaded->executable = executable;
  loaded->client = client;
  loaded->steps_in_flight = steps_in_flight;
  loaded->step_timeout = step_timeout;
  loaded->weights = std::make_unique<WeightStore>(client, executable);
  TFIPU_ASSIGN_OR_RETURN(loaded->whole, LoadStages(*executable, client, header, 0));
  for (const RowVariant& variant : header.row_variants()) {
    TFIPU_ASSIGN_OR_RETURN(PjrtStages stages,
                           LoadStages(*executable, client, HeaderOfVariant(header, variant), variant.rows()));
    loaded->variants.push_back(std::move(stages));
  }
  TFIPU_RETURN_IF_ERROR(WarmUp(loaded));
  return std::make_shared<PjrtProgram>(std::move(loaded));
}

}  // namespace tfipu
