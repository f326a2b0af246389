#include "serving/config_fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/text_format.h"
#include "serving/batching/batching_options.h"
#include "serving/config.pb.h"
#include "serving/core/text_proto.h"
#include "serving/monitoring/request_log.h"
#include "serving/session_config.h"
#include "serving/sources/model_config.h"

namespace tfipu::serving {
namespace {

using tensorflow::serving::ModelServerConfig;

void Demand(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

bool Accepted(const absl::Status& status) {
  Demand(status.ok() || (status.code() == absl::StatusCode::kInvalidArgument && !status.message().empty()),
         "errors are InvalidArgument with a text");
  return status.ok();
}

// Puts the text into a file of this process and returns its path.
const std::string& FileWith(absl::string_view text) {
  static const int file = memfd_create("config", 0);
  static const auto* const path = new std::string(absl::StrCat("/proc/self/fd/", file));
  Demand(ftruncate(file, 0) == 0 && pwrite(file, text.data(), text.size(), 0) == ssize_t(text.size()),
         "the file holds the text");
  return *path;
}

absl::StatusOr<std::vector<ConfiguredModel>> CheckModels(const ModelServerConfig& config) {
  auto models = CheckModelConfig(config);
  if (!models.ok()) return models;
  if (absl::Status status = RequestLog::Check(*models); !status.ok()) return status;
  return models;
}

bool ReadModels(absl::string_view text) {
  ModelServerConfig config;
  if (!Accepted(ReadTextProto(FileWith(text), &config))) return false;
  const auto models = CheckModels(config);
  if (!Accepted(models.status())) return false;
  std::set<std::string> names;
  for (const ConfiguredModel& model : *models) {
    Demand(!model.watched.name.empty() && names.insert(model.watched.name).second, "names are unique");
    Demand(!model.watched.base_path.empty(), "each model has a path");
    const VersionPolicy& policy = model.watched.policy;
    const auto chosen = policy.Choose({1, 2, 3});
    Demand(policy.kind == VersionPolicy::Kind::kSpecific ? !policy.versions.empty() : !chosen.empty(),
           "a policy chooses something");
  }
  std::string again;
  Demand(google::protobuf::TextFormat::PrintToString(config, &again), "a config can be written");
  ModelServerConfig config_again;
  Demand(ParseTextProto(again, "again", &config_again).ok(), "what was written can be read");
  const auto models_again = CheckModels(config_again);
  Demand(models_again.ok() && models_again->size() == models->size(), "what was read is accepted");
  for (std::size_t i = 0; i < models->size(); ++i) {
    Demand((*models)[i].watched == (*models_again)[i].watched &&
               (*models)[i].labels == (*models_again)[i].labels,
           "models are the same when read again");
  }
  return true;
}

bool ReadExecution(const Flags& flags) {
  const auto execution = LoaderOptionsFrom(flags);
  if (!Accepted(execution.status())) return false;
  const tensorflow::ConfigProto& session = execution->saved_model.session;
  Demand(session.intra_op_parallelism_threads() >= 1 && session.intra_op_parallelism_threads() <= 4096 &&
             session.inter_op_parallelism_threads() >= -1 && session.inter_op_parallelism_threads() <= 4096,
         "TensorFlow can make the threads");
  if (!execution->batching.has_value()) return true;
  const auto options = BatchingOptionsFrom(*execution->batching);
  Demand(options.ok(), "accepted batching parameters can be followed");
  Demand(options->max_batch_size >= 1 && options->max_enqueued_batches >= 1, "some rows may run and wait");
  Demand(options->execution_limit() >= 1 && options->execution_limit() <= options->max_batch_size,
         "a run has as many rows as are allowed");
  Demand(options->allowed_batch_sizes.empty() ||
             options->allowed_batch_sizes.back() == options->execution_limit(),
         "there is an allowed size for each run");
  return true;
}

template <typename Message>
bool ReadOnly(absl::string_view text) {
  Message message;
  return Accepted(ReadTextProto(FileWith(text), &message));
}

}  // namespace

bool ReadConfigFuzzInput(absl::string_view input) {
  if (input.empty()) return false;
  const auto mode = static_cast<ConfigFuzzMode>(static_cast<unsigned char>(input[0]) % 6);
  const absl::string_view text = input.substr(1);
  Flags flags;
  switch (mode) {
    case ConfigFuzzMode::kModels:
      return ReadModels(text);
    case ConfigFuzzMode::kBatching:
      flags.enable_batching = true;
      flags.batching_parameters_file = FileWith(text);
      return ReadExecution(flags);
    case ConfigFuzzMode::kSession:
      flags.tensorflow_session_config_file = FileWith(text);
      return ReadExecution(flags);
    case ConfigFuzzMode::kPlatform:
      flags.platform_config_file = FileWith(text);
      return ReadExecution(flags);
    case ConfigFuzzMode::kMonitoring:
      return ReadOnly<tensorflow::serving::MonitoringConfig>(text);
    case ConfigFuzzMode::kTls:
      return ReadOnly<tensorflow::serving::SSLConfig>(text);
  }
  return false;
}

std::vector<std::string> ConfigFuzzSeeds() {
  const auto seed = [](ConfigFuzzMode mode, absl::string_view text) {
    return absl::StrCat(std::string(1, static_cast<char>(mode)), text);
  };
  return {
      seed(ConfigFuzzMode::kModels, R"(# comment
model_config_list {
  config { name: "a" base_path: "/models/a" model_platform: "tensorflow" }
  config: < name: 'b', base_path: "gs://bucket/b"; model_version_policy { latest { num_versions: 3 } } >
  config {
    name: "c" base_path: "c" model_version_policy { specific { versions: 4 versions: [2, 1] } }
    version_labels { key: "stable" value: 2 } version_labels { key: "canary" value: 4 }
  }
  config {
    name: "d" base_path: "/models/\144" model_version_policy { all {} }
    logging_config {
      log_collector_config { type: "tfrecord" filename_prefix: "/var/log/d" } sampling_config { sampling_rate: 0.01 }
    }
  }
})"),
      seed(ConfigFuzzMode::kModels, "model_config_list: { config: [ { name: \"a\" base_path: \"/a\" } ] }"),
      seed(ConfigFuzzMode::kBatching, R"(max_batch_size { value: 64 } batch_timeout_micros { value: 500 }
max_enqueued_batches { value: 7 } num_batch_threads { value: 3 } thread_pool_name { value: "any" }
allowed_batch_sizes: 8 allowed_batch_sizes: 32 pad_variable_length_inputs: true
enable_large_batch_splitting { value: true } max_execution_batch_size { value: 32 })"),
      seed(ConfigFuzzMode::kSession, R"(intra_op_parallelism_threads: 2 inter_op_parallelism_threads: -1
device_count { key: "CPU" value: 1 } session_inter_op_thread_pool { num_threads: 2 }
graph_options { rewrite_options { meta_optimizer_iterations: ONE custom_optimizers { name: "x"
  parameter_map { key: "k" value { func { name: "f" attr { key: "a" value { list { i: [1, 2] } } } } } } } } }
experimental { optimize_for_static_graph: true })"),
      seed(ConfigFuzzMode::kPlatform, R"(platform_configs { key: "tensorflow" value { source_adapter_config {
  [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] { legacy_config {
    session_config { intra_op_parallelism_threads: 1 }
    batching_parameters { max_batch_size { value: 2 } batch_timeout_micros { value: 30000000 } }
} } } } })"),
      seed(ConfigFuzzMode::kMonitoring, "prometheus_config { enable: true path: \"/metrics\" }"),
      seed(ConfigFuzzMode::kTls,
           "server_key: \"-----BEGIN\\n\" server_cert: 'x' 'y' custom_ca: \"\" client_verify: false"),
  };
}

}  // namespace tfipu::serving

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tfipu::serving::ReadConfigFuzzInput({reinterpret_cast<const char*>(data), size});
  return 0;
}
