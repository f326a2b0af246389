// What can be set on the server's command line.
#ifndef SERVING_FLAGS_H_
#define SERVING_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace tfipu::serving {

// One member for each flag, of the flag's name and with its default; flags.cc says what each does. The first
// block is that of TensorFlow Serving 2.21, the second our own.
struct Flags {
  // Addresses
  std::int32_t port = 8500;
  std::string grpc_socket_path;
  std::int32_t rest_api_port = 0;
  std::string ssl_config_file;
  std::string rest_ssl_config_file;
  bool use_alts_credentials = false;
  // Models
  std::string model_name = "default";
  std::string model_base_path;
  std::string model_config_file;
  std::int32_t model_config_file_poll_wait_seconds = 0;
  std::int32_t file_system_poll_wait_seconds = 1;
  bool allow_version_labels_for_unavailable_models = false;
  std::string saved_model_tags = "serve";
  std::string platform_config_file;
  bool prefer_tflite_model = false;
  std::int32_t num_tflite_pools = 1;
  std::int32_t num_tflite_interpreters_per_pool = 1;
  bool remove_unused_fields_from_bundle_metagraph = true;
  // Loading
  std::int32_t num_load_threads = 0;
  std::int32_t num_unload_threads = 0;
  std::int32_t max_num_load_retries = 5;
  std::int64_t load_retry_interval_micros = 60'000'000;
  bool enable_model_warmup = true;
  std::int32_t num_request_iterations_for_warmup = 1;
  bool flush_filesystem_caches = true;
  // Batching
  bool enable_batching = false;
  std::string batching_parameters_file;
  bool enable_per_model_batching_parameters = false;
  // Execution
  std::int64_t tensorflow_session_parallelism = 0;
  std::int64_t tensorflow_intra_op_parallelism = 0;
  std::int64_t tensorflow_inter_op_parallelism = 0;
  std::string tensorflow_session_config_file;
  std::string thread_pool_factory_config_file;
  std::string mixed_precision;
  bool xla_cpu_compilation_enabled = false;
  bool xla_gpu_compilation_enabled = false;
  float per_process_gpu_memory_fraction = 0;
  bool skip_initialize_tpu = false;
  // gRPC
  std::string grpc_channel_arguments;
  std::int32_t grpc_max_threads = 256;
  bool enable_grpc_healthcheck_service = true;
  bool enable_profiler = true;
  bool enable_signature_method_name_check = false;
  bool enable_serialization_as_tensor_content = false;
  // REST
  std::int32_t rest_api_num_threads = 256;
  std::int32_t rest_api_timeout_in_ms = 30'000;
  bool rest_api_enable_cors_support = false;
  // Monitoring
  std::string monitoring_config_file;

  // Ours
  std::string bind_address;
  std::string port_file;
  bool listen_while_loading = false;
  std::string version_transition = "availability";
  std::int32_t load_timeout_seconds = 120;
  std::int32_t shutdown_grace_seconds = 30;
  bool enforce_signature_shapes = false;
  std::int64_t max_queued_calls = 10'000;
  std::int32_t compute_slots = 0;
  std::int32_t io_spin_us = 0;
  std::int64_t grpc_max_request_bytes = 0x7fffffff;
  std::int64_t grpc_max_calls = 0;
  std::int64_t max_connection_bytes = 0;
  std::int64_t max_inflight_bytes = 0;
  std::int32_t rest_api_num_io_threads = 0;
  std::int32_t rest_api_max_connections = 10'000;
  std::int64_t rest_api_max_body_bytes = std::int64_t{256} << 20;
  std::int64_t rest_api_max_header_bytes = 32 << 10;
  std::int32_t rest_api_max_json_depth = 300;
  std::int32_t rest_api_header_timeout_in_ms = 20'000;
  std::int32_t rest_api_stall_timeout_in_ms = 30'000;
  std::int32_t rest_api_idle_timeout_in_ms = 120'000;
  std::int64_t ipu_timeout_us = -1;
  std::int32_t ipu_replicas = 0;
  std::int64_t ipu_max_wait_us = -1;
  std::int64_t ipu_max_queued_calls = 0;
  std::string device_plugin;
  std::string device_preallocate;
  float device_memory_fraction = 0;
  std::int32_t device_steps_in_flight = 0;
  std::int64_t device_step_timeout_in_ms = 60'000;
  std::int64_t device_load_timeout_in_ms = 600'000;

  std::optional<std::string> probe;
  bool help = false;
  bool version = false;
};

// Reads "--name=value", "--name value", and for booleans also "--name", "--noname", "--name=true|false|1|0".
// The value of an optional member may be left out and is then ""; it is never the next argument.
// InvalidArgument names the argument that is wrong: an unknown flag (with the one most like it), a value that
// is no such thing, anything that is no flag. The last of several counts.
absl::Status ParseFlags(absl::Span<const char* const> arguments, Flags* flags);

// All flags in groups, with defaults and what they do.
std::string FlagHelp();

}  // namespace tfipu::serving

#endif  // SERVING_FLAGS_H_
