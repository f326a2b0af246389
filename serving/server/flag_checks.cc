#include "serving/server/flag_checks.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cc/base/status_macros.h"
#include "cc/executable/validate.h"
#include "serving/core/log.h"
#include "serving/device_options.h"
#include "tensorflow/core/util/util.h"

namespace tfipu::serving {

absl::Status CheckFlags(const Flags& flags) {
  if (flags.model_config_file.empty()) {
    if (flags.model_base_path.empty()) {
      return absl::InvalidArgumentError("Neither --model_base_path nor --model_config_file was given.");
    }
    if (flags.model_name.empty()) return absl::InvalidArgumentError("--model_name is empty.");
  }
  if (flags.use_alts_credentials) {
    return absl::InvalidArgumentError(
        "--use_alts_credentials: ALTS is not supported; use --ssl_config_file.");
  }
  const auto check_port = [](absl::string_view name, int port) {
    if (port >= kAnyPort && port <= 65535) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("--", name, ": found ", port, ", expected -1 to 65535."));
  };
  for (const std::int64_t bytes : {flags.max_connection_bytes, flags.max_inflight_bytes}) {
    if (bytes >= 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("--max_connection_bytes, --max_inflight_bytes: found ",
                                                   bytes,
                                                   ", expected a number of bytes, or 0 for the default."));
  }
  TFIPU_RETURN_IF_ERROR(check_port("port", flags.port));
  TFIPU_RETURN_IF_ERROR(check_port("rest_api_port", flags.rest_api_port));
  if (flags.port == 0 && flags.rest_api_port == 0 && flags.grpc_socket_path.empty()) {
    return absl::InvalidArgumentError(
        "--port and --rest_api_port are 0 and --grpc_socket_path is empty: nobody could reach the server. "
        "Set one.");
  }
  if (flags.port > 0 && flags.port == flags.rest_api_port) {
    return absl::InvalidArgumentError(absl::StrCat("--port and --rest_api_port are both ", flags.port, "."));
  }
  if (flags.load_timeout_seconds < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--load_timeout_seconds: found ", flags.load_timeout_seconds, ", expected at least 0."));
  }
  if (flags.version_transition != "availability" && flags.version_transition != "resources") {
    return absl::InvalidArgumentError(absl::StrCat("--version_transition: found \"", flags.version_transition,
                                                   "\", expected \"availability\" or \"resources\"."));
  }
  if (flags.ipu_replicas < 0 || flags.ipu_replicas > static_cast<int>(kMaxReplicas)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ipu_replicas: found ", flags.ipu_replicas, ", expected 0 to ", kMaxReplicas, "."));
  }
  return PjrtOptionsFrom(flags).status();
}

void LogFlagsWithoutEffect(const Flags& flags) {
  const Flags defaults;
  const auto note = [](bool set, absl::string_view name, absl::string_view why) {
    if (set) LogInfo("--", name, " has no effect: ", why);
  };
  // The official image's entry point always gives both.
  if (!flags.model_config_file.empty()) {
    const char* const why = "--model_config_file says which models are served.";
    note(flags.model_name != defaults.model_name, "model_name", why);
    note(!flags.model_base_path.empty(), "model_base_path", why);
  } else {
    note(flags.model_config_file_poll_wait_seconds > 0, "model_config_file_poll_wait_seconds",
         "there is no --model_config_file.");
  }
  if (!flags.platform_config_file.empty()) {
    const char* const why = "--platform_config_file says how models are run.";
    note(flags.enable_batching, "enable_batching", why);
    note(!flags.batching_parameters_file.empty(), "batching_parameters_file", why);
    note(!flags.tensorflow_session_config_file.empty(), "tensorflow_session_config_file", why);
    note(flags.tensorflow_session_parallelism != 0, "tensorflow_session_parallelism", why);
    note(flags.tensorflow_intra_op_parallelism != 0, "tensorflow_intra_op_parallelism", why);
    note(flags.tensorflow_inter_op_parallelism != 0, "tensorflow_inter_op_parallelism", why);
  } else {
    note(flags.enable_per_model_batching_parameters && !flags.enable_batching,
         "enable_per_model_batching_parameters", "there is no --enable_batching.");
  }
  note(flags.prefer_tflite_model, "prefer_tflite_model",
       "TensorFlow Lite is not supported, SavedModels are served.");
  note(flags.num_tflite_pools != defaults.num_tflite_pools, "num_tflite_pools",
       "TensorFlow Lite is not supported.");
  note(flags.num_tflite_interpreters_per_pool != defaults.num_tflite_interpreters_per_pool,
       "num_tflite_interpreters_per_pool", "TensorFlow Lite is not supported.");
  note(!flags.thread_pool_factory_config_file.empty(), "thread_pool_factory_config_file",
       "no thread pool factory is linked into this server.");
  note(flags.xla_gpu_compilation_enabled, "xla_gpu_compilation_enabled", "there are no GPUs.");
  note(flags.per_process_gpu_memory_fraction != 0, "per_process_gpu_memory_fraction", "there are no GPUs.");
  note(flags.mixed_precision == "bfloat16" &&
           !(tensorflow::IsMKLEnabled() &&
             tensorflow::IsDataTypeSupportedByOneDNNOnThisCPU(tensorflow::DT_BFLOAT16)),
       "mixed_precision",
       "bfloat16 needs a CPU with AVX-512 and TensorFlow's oneDNN operations (TF_ENABLE_ONEDNN_OPTS not 0).");
  note(flags.skip_initialize_tpu, "skip_initialize_tpu", "there are no TPUs.");
}

}  // namespace tfipu::serving
