#include "serving/flags.h"

#include <algorithm>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace tfipu::serving {
namespace {

struct Flag {
  absl::string_view name;
  std::variant<bool Flags::*, std::int32_t Flags::*, std::int64_t Flags::*, float Flags::*,
               std::string Flags::*, std::optional<std::string> Flags::*>
      member;
  absl::string_view help;
};

struct Group {
  absl::string_view title;
  std::vector<Flag> flags;
};

const std::vector<Group>& Groups() {
  static const auto* const groups = new std::vector<Group>{
      {"Addresses",
       {{"port", &Flags::port, "TCP port of the gRPC API. 0: off. -1: a free one that the system chooses."},
        {"grpc_socket_path", &Flags::grpc_socket_path,
         "Path of a Unix-domain socket on which the gRPC API listens as well."},
        {"rest_api_port", &Flags::rest_api_port,
         "TCP port of the REST API. 0: off. -1: a free one that the system chooses. Must differ from "
         "--port."},
        {"bind_address", &Flags::bind_address,
         "Numeric address on which both listen. Empty: all of the machine's, IPv4 and IPv6."},
        {"port_file", &Flags::port_file,
         "File to which {\"grpc\": 8500, \"rest\": 8501} is written once both listen; 0 is off."},
        {"listen_while_loading", &Flags::listen_while_loading,
         "Listen at once. Otherwise the ports open when each model that was found at start is served or has "
         "failed."},
        {"ssl_config_file", &Flags::ssl_config_file,
         "Text file of an SSLConfig (server_key, server_cert, custom_ca, client_verify): gRPC's TCP port "
         "speaks TLS."},
        {"rest_ssl_config_file", &Flags::rest_ssl_config_file,
         "The same for the REST API, which speaks HTTPS then. May be the same file."},
        {"use_alts_credentials", &Flags::use_alts_credentials,
         "Google's ALTS, which exists only on Google Cloud: not supported, and an error when set."},
        {"shutdown_grace_seconds", &Flags::shutdown_grace_seconds,
         "After SIGTERM or SIGINT, how long running requests may take to finish; then the server ends "
         "without "
         "them. A second signal ends at once."}}},
      {"Models",
       {{"model_name", &Flags::model_name, "Name of the model at --model_base_path."},
        {"model_base_path", &Flags::model_base_path,
         "Folder of one model, with a folder named by a number for each version."},
        {"model_config_file", &Flags::model_config_file,
         "Text file of a ModelServerConfig: any number of models. --model_name and --model_base_path are "
         "then "
         "ignored."},
        {"model_config_file_poll_wait_seconds", &Flags::model_config_file_poll_wait_seconds,
         "Seconds between looks at --model_config_file; when it has changed it takes effect. One that is "
         "wrong or "
         "lists no model changes nothing. 0: read once."},
        {"file_system_poll_wait_seconds", &Flags::file_system_poll_wait_seconds,
         "Seconds between looks for new versions. 0: look once at start and once for each new config. "
         "Negative: never "
         "look."},
        {"allow_version_labels_for_unavailable_models", &Flags::allow_version_labels_for_unavailable_models,
         "A reloaded config may give a new label to a version that is not available (at start it always "
         "may)."},
        {"version_transition", &Flags::version_transition,
         "availability: load new versions, then unload old ones. resources: unload old ones first."},
        {"saved_model_tags", &Flags::saved_model_tags,
         "Tags of the meta graph to load, separated by commas."},
        {"platform_config_file", &Flags::platform_config_file,
         "Text file of a PlatformConfigMap for platform \"tensorflow\": session config and batching "
         "parameters. "
         "--enable_batching and the --tensorflow_ flags are then ignored."},
        {"prefer_tflite_model", &Flags::prefer_tflite_model,
         "TensorFlow Lite is not supported: accepted, no effect."},
        {"num_tflite_pools", &Flags::num_tflite_pools,
         "TensorFlow Lite is not supported: accepted, no effect."},
        {"num_tflite_interpreters_per_pool", &Flags::num_tflite_interpreters_per_pool,
         "TensorFlow Lite is not supported: accepted, no effect."},
        {"remove_unused_fields_from_bundle_metagraph", &Flags::remove_unused_fields_from_bundle_metagraph,
         "Nothing of a meta graph but its signatures is kept after loading. --noremove... keeps the "
         "session's graph "
         "definition too."}}},
      {"Loading",
       {{"num_load_threads", &Flags::num_load_threads,
         "Versions loaded at the same time. 0: one for each core."},
        {"num_unload_threads", &Flags::num_unload_threads, "Versions unloaded at the same time. 0: one."},
        {"max_num_load_retries", &Flags::max_num_load_retries,
         "Further attempts to load a version after a transient error; other errors are final."},
        {"load_retry_interval_micros", &Flags::load_retry_interval_micros,
         "Microseconds between attempts to load."},
        {"load_timeout_seconds", &Flags::load_timeout_seconds,
         "Seconds after which a load counts as hung: the log and the model's status say so, the start and "
         "reload calls no "
         "longer wait for it, and its thread is replaced. It goes on all the same. 0: never."},
        {"enable_model_warmup", &Flags::enable_model_warmup,
         "Replay assets.extra/tf_serving_warmup_requests before a version is served."},
        {"num_request_iterations_for_warmup", &Flags::num_request_iterations_for_warmup,
         "How often each warm-up request is replayed; less than 1 means 1."},
        {"flush_filesystem_caches", &Flags::flush_filesystem_caches,
         "Flush TensorFlow's file system caches (of remote file systems) after loading."}}},
      {"Batching of ordinary models",
       {{"enable_batching", &Flags::enable_batching, "Run requests of several clients together."},
        {"batching_parameters_file", &Flags::batching_parameters_file,
         "Text file of BatchingParameters. Needs --enable_batching."},
        {"enable_per_model_batching_parameters", &Flags::enable_per_model_batching_parameters,
         "Fields in a version's batching_params.pbtxt take precedence over --batching_parameters_file. No "
         "effect "
         "without --enable_batching."}}},
      {"Execution",
       {{"tensorflow_session_parallelism", &Flags::tensorflow_session_parallelism,
         "Sets both of the next two flags where they are 0."},
        {"tensorflow_intra_op_parallelism", &Flags::tensorflow_intra_op_parallelism,
         "Threads for one operation, a number or 0 for 1: requests then use one core each. More shorten "
         "large models' requests "
         "while cores are idle, and cost throughput when they are not."},
        {"tensorflow_inter_op_parallelism", &Flags::tensorflow_inter_op_parallelism,
         "Threads for independent operations of one request. 0 or 1: none, requests run in the threads that "
         "hold them."},
        {"tensorflow_session_config_file", &Flags::tensorflow_session_config_file,
         "Text file of a ConfigProto for all sessions; flags above that are set take precedence."},
        {"thread_pool_factory_config_file", &Flags::thread_pool_factory_config_file,
         "Thread pool factories are linked into a server at build time and this one has none: accepted, no "
         "effect."},
        {"enforce_signature_shapes", &Flags::enforce_signature_shapes,
         "Refuse inputs whose shape is not what the signature says. Otherwise they go to the model, whose "
         "answer or "
         "error counts. Exported models always refuse them."},
        {"mixed_precision", &Flags::mixed_precision,
         "\"bfloat16\": matrix products and convolutions in bfloat16 where that is safe, on CPUs with "
         "AVX-512. "
         "Empty: as exported."},
        {"xla_cpu_compilation_enabled", &Flags::xla_cpu_compilation_enabled,
         "Compile clusters of operations with XLA at the first call of a shape."},
        {"xla_gpu_compilation_enabled", &Flags::xla_gpu_compilation_enabled, "No GPUs: accepted, no effect."},
        {"per_process_gpu_memory_fraction", &Flags::per_process_gpu_memory_fraction,
         "No GPUs: accepted, no effect."},
        {"skip_initialize_tpu", &Flags::skip_initialize_tpu, "No TPUs: accepted, no effect."},
        {"io_spin_us", &Flags::io_spin_us,
         "Microseconds that an IO thread looks for the next request before it sleeps, when requests have "
         "been "
         "coming that fast. 50 can halve the latency for clients that ask again as soon as they are "
         "answered, "
         "for about as much CPU time. 0: it sleeps at once."},
        {"max_connection_bytes", &Flags::max_connection_bytes,
         "Bytes that one connection may make the server hold: requests, what compressed ones become, and "
         "answers "
         "that wait to be sent. What comes on top is refused with RESOURCE_EXHAUSTED or 503. 0: twice the "
         "largest "
         "request that --grpc_max_request_bytes and --rest_api_max_body_bytes allow, and 64 MiB."},
        {"max_inflight_bytes", &Flags::max_inflight_bytes,
         "The same for all connections together; the first 64 KiB of each are not counted. 0: 1 GiB, and one "
         "connection at a time may go beyond it, so that the largest legal request is always possible."},
        {"max_queued_calls", &Flags::max_queued_calls,
         "Requests that may wait for a thread, for gRPC and REST each; one more is refused."},
        {"compute_slots", &Flags::compute_slots,
         "Requests that compute at once, if they are not short; others wait. One that waits for something "
         "without computing makes room for another. 0: one for each core."}}},
      {"Emulated IPUs",
       {{"ipu_timeout_us", &Flags::ipu_timeout_us,
         "Microseconds without input after which a pipeline that holds requests is pushed on. -1: as "
         "exported."},
        {"ipu_replicas", &Flags::ipu_replicas,
         "Devices for each executable. 0: as exported; where the export did not say, one for each core, "
         "eight at "
         "most, for executables of a single stage, and one for pipelines and those that carry values."},
        {"ipu_max_wait_us", &Flags::ipu_max_wait_us,
         "Microseconds that a row may wait for others of a dynamic batch. -1: as exported."},
        {"ipu_max_queued_calls", &Flags::ipu_max_queued_calls,
         "Calls that may wait for each executable; one more is refused. 0: no bound."}}},
      {"Devices of PJRT plugins (GPUs, TPUs)",
       {{"device_plugin", &Flags::device_plugin,
         "Paths of PJRT plugins (shared libraries), with commas between them. An executable that was "
         "compiled for a plugin runs on that one only: the same file, by its hash."},
        {"device_preallocate", &Flags::device_preallocate,
         "Whether a plugin takes its devices' memory at once (\"true\") or as it needs it (\"false\"). "
         "Empty: "
         "as the plugin does by itself."},
        {"device_memory_fraction", &Flags::device_memory_fraction,
         "How much of its devices' memory a plugin may take, 0 to 1. 0: as the plugin does by itself."},
        {"device_steps_in_flight", &Flags::device_steps_in_flight,
         "Steps that one device works on at a time, up to 64. 0: one on the host's CPU, four elsewhere."},
        {"device_step_timeout_in_ms", &Flags::device_step_timeout_in_ms,
         "A step that takes longer has failed, and its model with it."},
        {"device_load_timeout_in_ms", &Flags::device_load_timeout_in_ms,
         "A plugin that takes longer to start, or to load an executable, has failed to."}}},
      {"gRPC API",
       {{"grpc_channel_arguments", &Flags::grpc_channel_arguments,
         "gRPC server arguments, \"key=value,key=value\" (grpc.max_connection_age_ms=2000)."},
        {"grpc_max_threads", &Flags::grpc_max_threads,
         "Requests that may run at once, if they are not short; --compute_slots says how many of them "
         "compute."},
        {"grpc_max_request_bytes", &Flags::grpc_max_request_bytes, "A larger request is refused."},
        {"grpc_max_calls", &Flags::grpc_max_calls, "Requests in flight; one more is refused. 0: no bound."},
        {"enable_grpc_healthcheck_service", &Flags::enable_grpc_healthcheck_service,
         "Serve grpc.health.v1.Health for the server (\"\") and for each model by its name."},
        {"enable_profiler", &Flags::enable_profiler, "Serve tensorflow.ProfilerService."},
        {"enable_signature_method_name_check", &Flags::enable_signature_method_name_check,
         "A signature may be called only by the API that its method_name names."},
        {"enable_serialization_as_tensor_content", &Flags::enable_serialization_as_tensor_content,
         "Predict answers with tensor_content instead of the typed value fields."}}},
      {"REST API",
       {{"rest_api_num_threads", &Flags::rest_api_num_threads,
         "Requests that may run at once, if they are not short; --compute_slots says how many of them "
         "compute."},
        {"rest_api_num_io_threads", &Flags::rest_api_num_io_threads,
         "IO threads of the REST API's own. 0: it shares gRPC's, one for each core."},
        {"rest_api_timeout_in_ms", &Flags::rest_api_timeout_in_ms,
         "Longest time of a call: then it is answered with 504, and given up if it has not begun. 0: no "
         "limit."},
        {"rest_api_enable_cors_support", &Flags::rest_api_enable_cors_support,
         "Let web pages of any origin call."},
        {"rest_api_max_connections", &Flags::rest_api_max_connections, "Connections at the same time."},
        {"rest_api_max_body_bytes", &Flags::rest_api_max_body_bytes,
         "Size of a request's body, as sent and decompressed."},
        {"rest_api_max_header_bytes", &Flags::rest_api_max_header_bytes, "Size of a request's header."},
        {"rest_api_max_json_depth", &Flags::rest_api_max_json_depth, "Nesting of a request's JSON."},
        {"rest_api_header_timeout_in_ms", &Flags::rest_api_header_timeout_in_ms,
         "Time from the first byte of a request's header to its last."},
        {"rest_api_stall_timeout_in_ms", &Flags::rest_api_stall_timeout_in_ms,
         "Time without any byte of a body, or without the client taking any of the answer."},
        {"rest_api_idle_timeout_in_ms", &Flags::rest_api_idle_timeout_in_ms,
         "Time that a connection may be without request."}}},
      {"Monitoring",
       {{"monitoring_config_file", &Flags::monitoring_config_file,
         "Text file of a MonitoringConfig: prometheus_config { enable: true path: \"...\" } adds a page to "
         "the REST "
         "API."}}},
      {"Other things to do",
       {{"probe", &Flags::probe,
         "Ask the health of a running server and exit: 0 when it serves, 1 otherwise, with the reason. The "
         "value is "
         "host:port, host:port/model or unix:/path; without one it is what --grpc_socket_path, "
         "--bind_address and "
         "--port say."},
        {"help", &Flags::help, "Print this and exit."},
        {"version", &Flags::version, "Print the versions of server and TensorFlow and exit."}}}};
  return *groups;
}

const Flag* FindFlag(absl::string_view name) {
  for (const Group& group : Groups()) {
    for (const Flag& flag : group.flags) {
      if (flag.name == name) return &flag;
    }
  }
  return nullptr;
}

// Insertions, removals and replacements that turn one into the other.
std::size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

std::string Suggestion(absl::string_view name) {
  absl::string_view best;
  std::size_t distance = name.size() * 2 / 5 + 2;
  for (const Group& group : Groups()) {
    for (const Flag& flag : group.flags) {
      const std::size_t other = Distance(name, flag.name);
      if (other < distance) {
        distance = other;
        best = flag.name;
      }
    }
  }
  return best.empty() ? " See --help." : absl::StrCat(" Did you mean --", best, "?");
}

bool ParseBool(absl::string_view value, bool* parsed) {
  // As protobuf and absl write them, and "" for a bare flag.
  if (value.empty()) return false;
  return absl::SimpleAtob(value, parsed);
}

absl::Status SetFlag(const Flag& flag, absl::string_view value, Flags* flags) {
  const auto wrong = [&](absl::string_view expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag.name, ": found \"", value, "\", expected ", expected, "."));
  };
  if (const auto* text = std::get_if<std::string Flags::*>(&flag.member)) {
    flags->*(*text) = std::string(value);
  } else if (const auto* optional = std::get_if<std::optional<std::string> Flags::*>(&flag.member)) {
    flags->*(*optional) = std::string(value);
  } else if (const auto* flag_bool = std::get_if<bool Flags::*>(&flag.member)) {
    if (!ParseBool(value, &(flags->*(*flag_bool)))) return wrong("true or false");
  } else if (const auto* int32 = std::get_if<std::int32_t Flags::*>(&flag.member)) {
    if (!absl::SimpleAtoi(value, &(flags->*(*int32)))) return wrong("a whole number");
  } else if (const auto* int64 = std::get_if<std::int64_t Flags::*>(&flag.member)) {
    if (!absl::SimpleAtoi(value, &(flags->*(*int64)))) return wrong("a whole number");
  } else if (const auto* number = std::get_if<float Flags::*>(&flag.member)) {
    if (!absl::SimpleAtof(value, &(flags->*(*number)))) return wrong("a number");
  }
  return absl::OkStatus();
}

std::string DefaultOf(const Flag& flag) {
  const Flags defaults;
  return std::visit(
      [&](auto member) -> std::string {
        const auto& value = defaults.*member;
        using Value = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<Value, bool>) {
          return value ? "true" : "false";
        } else if constexpr (std::is_same_v<Value, std::string>) {
          return absl::StrCat("\"", value, "\"");
        } else if constexpr (std::is_same_v<Value, std::optional<std::string>>) {
          return "(off)";
        } else {
          return absl::StrCat(value);
        }
      },
      flag.member);
}

}  // namespace

absl::Status ParseFlags(absl::Span<const char* const> arguments, Flags* flags) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view argument = arguments[i];
    if (argument.size() < 3 || argument.substr(0, 2) != "--") {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", argument, "\" is not a flag; expected --name=value. See --help."));
    }
    argument.remove_prefix(2);
    const std::size_t equals = argument.find('=');
    const absl::string_view name = argument.substr(0, equals);
    const bool has_value = equals != absl::string_view::npos;
    const Flag* flag = FindFlag(name);
    if (flag == nullptr && !has_value && name.substr(0, 2) == "no") {
      const Flag* const negated = FindFlag(name.substr(2));
      if (negated != nullptr && std::holds_alternative<bool Flags::*>(negated->member)) {
        flags->*std::get<bool Flags::*>(negated->member) = false;
        continue;
      }
    }
    if (flag == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("There is no flag --", name, ".", Suggestion(name)));
    }
    absl::string_view value;
    if (has_value) {
      value = argument.substr(equals + 1);
    } else if (std::holds_alternative<bool Flags::*>(flag->member)) {
      value = "true";
      bool parsed;
      if (i + 1 < arguments.size() && ParseBool(arguments[i + 1], &parsed)) value = arguments[++i];
    } else if (std::holds_alternative<std::optional<std::string> Flags::*>(flag->member)) {
      value = "";
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " has no value; expected --", name, "=value."));
    }
    if (absl::Status status = SetFlag(*flag, value, flags); !status.ok()) return status;
  }
  return absl::OkStatus();
}

std::string FlagHelp() {
  std::string help =
      "tensorflow_model_server serves SavedModels, also those exported for IPUs, over gRPC and REST.\n"
      "\n"
      "  tensorflow_model_server --rest_api_port=8501 --model_name=my_model "
      "--model_base_path=/path/to/my_model\n"
      "\n"
      "Flags are --name=value or --name value; booleans also --name and --noname.\n";
  for (const Group& group : Groups()) {
    absl::StrAppend(&help, "\n", group.title, ":\n");
    for (const Flag& flag : group.flags) {
      absl::StrAppend(&help, "  --", flag.name, "=", DefaultOf(flag), "\n");
      std::string line = "     ";
      for (const absl::string_view word : absl::StrSplit(flag.help, ' ')) {
        if (line.size() + 1 + word.size() > 100) {
          absl::StrAppend(&help, line, "\n");
          line = "     ";
        }
        absl::StrAppend(&line, " ", word);
      }
      absl::StrAppend(&help, line, "\n");
    }
  }
  return help;
}

}  // namespace tfipu::serving
