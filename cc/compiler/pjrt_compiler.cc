#include "cc/compiler/pjrt_compiler.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/compiler/deterministic_bytes.h"
#include "cc/device/pjrt/client.h"
#include "cc/device/pjrt/identity.h"
#include "xla/pjrt/proto/compile_options.pb.h"

namespace tfipu {
namespace {

// One program, on one device, which is chosen when it runs.
std::string CompileOptionsBytes() {
  xla::CompileOptionsProto options;
  options.set_compile_portable_executable(true);
  xla::ExecutableBuildOptionsProto& build = *options.mutable_executable_build_options();
  build.set_device_ordinal(-1);
  build.set_num_replicas(1);
  build.set_num_partitions(1);
  return SerializeDeterministically(options);
}

// What the plugin compiled, freed with its owner. The description of a loaded executable needs that.
struct Compiled {
  explicit Compiled(const Plugin* plugin) : plugin(plugin) {}
  ~Compiled() {
    if (executable != nullptr) {
      auto args = PjrtArgs<PJRT_Executable_Destroy_Args>();
      args.executable = executable;
      plugin->Call(&PJRT_Api::PJRT_Executable_Destroy, args).IgnoreError();
    }
    if (loaded != nullptr) {
      auto args = PjrtArgs<PJRT_LoadedExecutable_Destroy_Args>();
      args.executable = loaded;
      plugin->Call(&PJRT_Api::PJRT_LoadedExecutable_Destroy, args).IgnoreError();
    }
  }
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;

  const Plugin* const plugin;
  PJRT_Executable* executable = nullptr;
  PJRT_LoadedExecutable* loaded = nullptr;  // when it was compiled for devices that are here
};

class PjrtCompiler : public TargetCompiler {
 public:
  explicit PjrtCompiler(PjrtCompileOptions options) : options_(std::move(options)) {}

  ~PjrtCompiler() override {
    if (topology_ == nullptr) return;
    auto args = PjrtArgs<PJRT_TopologyDescription_Destroy_Args>();
    args.topology = topology_;
    plugin_->Call(&PJRT_Api::PJRT_TopologyDescription_Destroy, args).IgnoreError();
  }

  absl::Status Begin(ExecutableHeader& header) override {
    const FloatingPointBehaviour& exceptions = header.floating_point();
    if (exceptions.inv() || exceptions.div0() || exceptions.oflo()) {
      return absl::InvalidArgumentError(
          "A PJRT device does not end a run on a floating-point exception, but the configuration asks for it "
          "(floating_point_behaviour).");
    }
    // Results leave as soon as they are computed.
    header.set_hold(0);
    TFIPU_ASSIGN_OR_RETURN(const std::string hash, Plugin::HashOf(options_.plugin.path));
    TFIPU_ASSIGN_OR_RETURN(plugin_, Plugin::Load(options_.plugin));
    PjrtTarget& target = *header.mutable_target()->mutable_pjrt();
    const std::string name = target.name();
    if (options_.topology_name.empty() && options_.topology_options.empty()) {
      TFIPU_ASSIGN_OR_RETURN(client_, Client::Get(plugin_, {}));
      target = client_->description();
    } else {
      target.Clear();
      TFIPU_RETURN_IF_ERROR(DescribeTopology(target));
    }
    target.set_name(name);
    *target.mutable_plugin() = plugin_->description();
    target.mutable_plugin()->set_sha256(hash);
    target.set_compile_options(CompileOptionsBytes());
    return absl::OkStatus();
  }

  absl::StatusOr<GeneratedCode> Generate(std::unique_ptr<xla::HloModule> module,
                                         const std::vector<Donation>& donations) override {
    for (const auto& [parameter, result] : donations) {
      TFIPU_RETURN_IF_ERROR(module->input_output_alias_config().SetUpAlias({result}, parameter, {}));
    }
    xla::HloModuleProto proto = module->ToProto();
    proto.clear_id();
    std::string hlo = SerializeDeterministically(proto);
    Compiled compiled(plugin_);
    TFIPU_RETURN_IF_ERROR(Compile(hlo, compiled));
    if (abi_version_.empty()) abi_version_ = AbiVersionOf(*plugin_, compiled.executable);
    return Serialize(compiled.executable);
  }

  absl::Status End(ExecutableHeader& header, const std::map<std::uint32_t, std::uint64_t>&) override {
    header.mutable_target()->mutable_pjrt()->set_abi_version(abi_version_);
    return absl::OkStatus();
  }

 private:
  absl::Status DescribeTopology(PjrtTarget& target) {
    std::vector<PJRT_NamedValue> values;
    for (const auto& [name, text] : options_.topology_options) {
      PJRT_NamedValue& value = values.emplace_back(PjrtArgs<PJRT_NamedValue>());
      value.name = name.data();
      value.name_size = name.size();
      value.type = PJRT_NamedValue_kString;
      value.string_value = text.data();
      value.value_size = text.size();
    }
    auto create = PjrtArgs<PJRT_TopologyDescription_Create_Args>();
    create.topology_name = options_.topology_name.data();
    create.topology_name_size = options_.topology_name.size();
    create.create_options = values.data();
    create.num_options = values.size();
    TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_TopologyDescription_Create, create));
    topology_ = create.topology;
    auto name = PjrtArgs<PJRT_TopologyDescription_PlatformName_Args>();
    name.topology = topology_;
    TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_TopologyDescription_PlatformName, name));
    target.set_platform(std::string(name.platform_name, name.platform_name_size));
    auto devices = PjrtArgs<PJRT_TopologyDescription_GetDeviceDescriptions_Args>();
    devices.topology = topology_;
    TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_TopologyDescription_GetDeviceDescriptions, devices));
    if (devices.num_descriptions == 0) return absl::InvalidArgumentError("the topology has no device");
    // The platform's version is known of devices that are here only; the plugin's hash stands for it.
    return DescribeDevice(*plugin_, devices.descriptions[0], target);
  }

  absl::Status Compile(std::string& hlo, Compiled& compiled) {
    constexpr absl::string_view kFormat = "hlo";
    const std::string options = CompileOptionsBytes();
    auto program = PjrtArgs<PJRT_Program>();
    program.code = hlo.data();
    program.code_size = hlo.size();
    program.format = kFormat.data();
    program.format_size = kFormat.size();
    if (topology_ != nullptr) {
      auto compile = PjrtArgs<PJRT_Compile_Args>();
      compile.topology = topology_;
      compile.program = &program;
      compile.compile_options = options.data();
      compile.compile_options_size = options.size();
      TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Compile, compile));
      compiled.executable = compile.executable;
      return absl::OkStatus();
    }
    auto compile = PjrtArgs<PJRT_Client_Compile_Args>();
    compile.client = client_->get();
    compile.program = &program;
    compile.compile_options = options.data();
    compile.compile_options_size = options.size();
    TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Client_Compile, compile));
    compiled.loaded = compile.executable;
    auto get = PjrtArgs<PJRT_LoadedExecutable_GetExecutable_Args>();
    get.loaded_executable = compile.executable;
    TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_LoadedExecutable_GetExecutable, get));
    compiled.executable = get.executable;
    return absl::OkStatus();
  }

  absl::StatusOr<GeneratedCode> Serialize(PJRT_Executable* executable) const {
    auto args = PjrtArgs<PJRT_Executable_Serialize_Args>();
    args.executable = executable;
    TFIPU_RETURN_IF_ERROR(plugin_->Call(&PJRT_Api::PJRT_Executable_Serialize, args));
    GeneratedCode code;
    code.code.assign(args.serialized_bytes, args.serialized_bytes_size);
    if (args.serialized_executable_deleter != nullptr) {
      args.serialized_executable_deleter(args.serialized_executable);
    }
    code.code_size = code.code.size();
    auto memory = PjrtArgs<PJRT_Executable_GetCompiledMemoryStats_Args>();
    memory.executable = executable;
    if (plugin_->Call(&PJRT_Api::PJRT_Executable_GetCompiledMemoryStats, memory).ok() &&
        memory.temp_size_in_bytes > 0) {
      code.temp_size = memory.temp_size_in_bytes;
    }
    return code;
  }

  const PjrtCompileOptions options_;
  Plugin* plugin_ = nullptr;
  Client* client_ = nullptr;                      // without a topology
  PJRT_TopologyDescription* topology_ = nullptr;  // owned
  std::string abi_version_;
};

}  // namespace

std::unique_ptr<TargetCompiler> MakePjrtCompiler(PjrtCompileOptions options) {
  return std::make_unique<PjrtCompiler>(std::move(options));
}

}  // namespace tfipu
