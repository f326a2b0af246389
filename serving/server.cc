#include "serving/server.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "cc/base/status_macros.h"
#include "cc/engine/engine_manager.h"
#include "cc/executable/validate.h"
#include "serving/api/call_observer.h"
#include "serving/api/inference.h"
#include "serving/api/rpc_methods.h"
#include "serving/batching/batching_options.h"
#include "serving/batching/batching_servable.h"
#include "serving/compute/compute_slots.h"
#include "serving/compute/compute_thread.h"
#include "serving/config.pb.h"
#include "serving/core/log.h"
#include "serving/core/manager.h"
#include "serving/device_options.h"
#include "serving/grpc/grpc_server.h"
#include "serving/health.h"
#include "serving/monitoring/connection_metrics.h"
#include "serving/monitoring/engine_metrics.h"
#include "serving/monitoring/prometheus.h"
#include "serving/monitoring/request_log.h"
#include "serving/monitoring/request_metrics.h"
#include "serving/monitoring/signature_metrics.h"
#include "serving/net/http1/http_server.h"
#include "serving/net/io_threads.h"
#include "serving/net/memory_budget.h"
#include "serving/rest/rest_handler.h"
#include "serving/rest/statistics_json.h"
#include "serving/servables/saved_model.h"
#include "serving/servables/warmup.h"
#include "serving/session_config.h"
#include "serving/sources/config_source.h"
#include "serving/sources/model_config.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/util/util.h"

namespace tfipu::serving {
namespace {

constexpr char kPrometheusPath[] = "/monitoring/prometheus/metrics";
// Each has buffers of its own: on a machine with many cores, more are for the operator to ask for.
constexpr int kMaxAutomaticReplicas = 8;
// Operators who reload and profile, and how many may wait.
constexpr int kBackgroundThreads = 4;
constexpr std::size_t kMaxBackgroundTasks = 64;
constexpr std::size_t kDefaultInflightBytes = std::size_t{1} << 30;
constexpr std::size_t kConnectionBytesBesides = 64 << 20;
// The flags' word for a port that the system chooses.
constexpr int kAnyPort = -1;

// Where to listen: "::" takes IPv4 as well, but is not to be had on machines without IPv6.
std::string ListenAddress(const Flags& flags) {
  if (!flags.bind_address.empty()) return flags.bind_address;
  const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return "0.0.0.0";
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  const bool has_ipv6 = bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof(any)) == 0;
  close(fd);
  return has_ipv6 ? "::" : "0.0.0.0";
}

// Runs a recorded request as the APIs would.
absl::Status ReplayLog(const Servable& servable, const tensorflow::serving::PredictionLog& log,
                       const InferenceOptions& options) {
  const CallContext context;
  if (log.has_predict_log()) {
    tensorflow::serving::PredictResponse response;
    return Predict(servable, log.predict_log().request(), options, context, &response);
  }
  if (log.has_classify_log()) {
    tensorflow::serving::ClassificationResponse response;
    return Classify(servable, log.classify_log().request(), options, context, &response);
  }
  if (log.has_regress_log()) {
    tensorflow::serving::RegressionResponse response;
    return Regress(servable, log.regress_log().request(), options, context, &response);
  }
  if (log.has_multi_inference_log()) {
    tensorflow::serving::MultiInferenceResponse response;
    return MultiInference(servable, log.multi_inference_log().request(), options, context, &response);
  }
  return absl::UnimplementedError(
      "it records a call that is none of Predict, Classify, Regress and MultiInference");
}

class SavedModelLoader : public Loader {
 public:
  SavedModelLoader(const VersionSource& source, const ExecutionConfig& execution, const Flags& flags,
                   const InferenceOptions& inference)
      : source_(source), execution_(execution), flags_(flags), inference_(inference) {}

  absl::StatusOr<std::unique_ptr<const Servable>> Load() override {
    TFIPU_ASSIGN_OR_RETURN(std::unique_ptr<const Servable> servable,
                           LoadSavedModelServable(source_, execution_.saved_model));
    if (execution_.batching.has_value() && !servable->UsesDevice()) {
      tensorflow::serving::BatchingParameters parameters = *execution_.batching;
      if (flags_.enable_per_model_batching_parameters) {
        TFIPU_ASSIGN_OR_RETURN(parameters, ModelBatchingParameters(parameters, source_.path));
      }
      TFIPU_ASSIGN_OR_RETURN(const BatchingOptions batching, BatchingOptionsFrom(parameters));
      servable = MakeBatchingServable(std::move(servable), batching);
    }
    if (flags_.enable_model_warmup) {
      TFIPU_RETURN_IF_ERROR(
          WarmUp(*servable, source_.path, std::max(1, flags_.num_request_iterations_for_warmup),
                 [this](const Servable& warm, const tensorflow::serving::PredictionLog& log) {
                   return ReplayLog(warm, log, inference_);
                 }));
    }
    if (flags_.flush_filesystem_caches) tensorflow::Env::Default()->FlushFileSystemCaches().IgnoreError();
    return servable;
  }

 private:
  const VersionSource source_;
  const ExecutionConfig& execution_;
  const Flags& flags_;
  const InferenceOptions& inference_;
};

class Observer : public CallObserver {
 public:
  Observer(RequestMetrics* metrics, RequestLog* log) : metrics_(metrics), log_(log) {}
  void Finished(const CallRecord& call) override {
    metrics_->Finished(call);
    if (call.signature != nullptr) call.signature->statistics->CallFinished(call.status, call.latency);
  }
  bool WantsLog(const ServableId& servable) override { return log_->Wants(servable); }
  void Log(const ServableId& servable, std::unique_ptr<tensorflow::serving::PredictionLog> log) override {
    log_->Add(servable, std::move(log));
  }

 private:
  RequestMetrics* const metrics_;
  RequestLog* const log_;
};

void LogChange(const ServableState& state) {
  switch (state.stage) {
    case ServableStage::kLoading:
      if (!state.status.ok()) {
        LogWarning("Loading servable version ", state.id.DebugString(),
                   " failed and will be tried again: ", state.status.ToString());
      }
      break;
    case ServableStage::kAvailable:
      LogInfo("Successfully loaded servable version ", state.id.DebugString());
      break;
    case ServableStage::kEnd:
      if (state.status.ok()) {
        LogInfo("Unloaded servable version ", state.id.DebugString());
      } else {
        LogError("Loading servable version ", state.id.DebugString(), " failed: ", state.status.ToString());
      }
      break;
    case ServableStage::kStart:
    case ServableStage::kUnloading:
      break;
  }
}

// Flags that mean something elsewhere but nothing here.
void LogFlagsWithoutEffect(const Flags& flags) {
  const Flags defaults;
  const auto note = [](bool set, absl::string_view name, absl::string_view why) {
    if (set) LogInfo("--", name, " has no effect: ", why);
  };
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

absl::Status CheckFlags(const Flags& flags) {
  if (flags.model_config_file.empty() == flags.model_base_path.empty()) {
    return absl::InvalidArgumentError(flags.model_config_file.empty()
                                          ? "Neither --model_base_path nor --model_config_file was given."
                                          : "--model_base_path and --model_config_file were both given.");
  }
  if (flags.model_name.empty()) return absl::InvalidArgumentError("--model_name is empty.");
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
  if (flags.port > 0 && flags.port == flags.rest_api_port) {
    return absl::InvalidArgumentError(absl::StrCat("--port and --rest_api_port are both ", flags.port, "."));
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

ManagerOptions ManagerOptionsFrom(const Flags& flags) {
  ManagerOptions options;
  options.load_threads = flags.num_load_threads > 0 ? flags.num_load_threads
                                                    : static_cast<int>(std::thread::hardware_concurrency());
  options.unload_threads = std::max(1, flags.num_unload_threads);
  options.max_load_retries = flags.max_num_load_retries;
  options.load_retry_interval = absl::Microseconds(flags.load_retry_interval_micros);
  options.transition = flags.version_transition == "resources"
                           ? ManagerOptions::Transition::kPreserveResources
                           : ManagerOptions::Transition::kPreserveAvailability;
  return options;
}

ConfigSourceOptions ConfigSourceOptionsFrom(const Flags& flags) {
  ConfigSourceOptions options;
  options.poll_interval = absl::Seconds(flags.file_system_poll_wait_seconds);
  options.never_look = flags.file_system_poll_wait_seconds < 0;
  options.labels_for_unavailable_versions = flags.allow_version_labels_for_unavailable_models;
  return options;
}

void SetEngineDefaults(const Flags& flags) {
  EngineDefaults defaults;
  if (flags.ipu_timeout_us >= 0) defaults.timeout = absl::Microseconds(flags.ipu_timeout_us);
  if (flags.ipu_replicas > 0) defaults.replicas = flags.ipu_replicas;
  defaults.automatic_replicas =
      std::min<int>(kMaxAutomaticReplicas, std::max(1u, std::thread::hardware_concurrency()));
  if (flags.ipu_max_wait_us >= 0) defaults.max_wait = absl::Microseconds(flags.ipu_max_wait_us);
  defaults.max_queued_calls = static_cast<std::size_t>(std::max<std::int64_t>(0, flags.ipu_max_queued_calls));
  defaults.on_thread_start = compute::BecomeComputeThread;
  EngineManager::Global().set_defaults(defaults);
}

}  // namespace

class Server::Impl {
 public:
  Impl(const Flags& flags, ExecutionConfig execution)
      : flags_(flags),
        execution_(std::move(execution)),
        budget_(flags_.max_inflight_bytes > 0 ? static_cast<std::size_t>(flags_.max_inflight_bytes)
                                              : kDefaultInflightBytes,
                /*one_beyond=*/flags_.max_inflight_bytes <= 0),
        observer_(&metrics_, &request_log_) {
    inference_.check_method_name = flags_.enable_signature_method_name_check;
    inference_.tensor_content = flags_.enable_serialization_as_tensor_content;
  }

  absl::Status Start() {
    SetEngineDefaults(flags_);
    TFIPU_ASSIGN_OR_RETURN(const PjrtOptions devices, PjrtOptionsFrom(flags_));
    ConfigurePjrt(devices);
    ManagerOptions manager_options = ManagerOptionsFrom(flags_);
    manager_options.on_change = [this](const ServableState& state) {
      LogChange(state);
      health_->Update();
    };
    manager_ = std::make_unique<Manager>(std::move(manager_options), [this](const VersionSource& source) {
      return std::make_unique<SavedModelLoader>(source, execution_, flags_, inference_);
    });
    health_ = std::make_unique<Health>(manager_.get());
    TFIPU_RETURN_IF_ERROR(StartModels());
    TFIPU_RETURN_IF_ERROR(StartRest());
    TFIPU_RETURN_IF_ERROR(StartGrpc());
    return WritePorts();
  }

  void Shutdown() {
    absl::MutexLock lock(&shutdown_mutex_);
    if (shut_down_) return;
    shut_down_ = true;
    if (health_ != nullptr) health_->Stop();
    const std::chrono::seconds grace(std::max(0, flags_.shutdown_grace_seconds));
    std::thread rest([this] {
      if (http_ != nullptr) http_->Shutdown();
    });
    if (grpc_ != nullptr) grpc_->Shutdown(grace);
    rest.join();
    models_.reset();
    // Calls that a transport gave up still hold servables until they end.
    grpc_queue_.reset();
    rest_queue_.reset();
    if (manager_ != nullptr) manager_->Stop();
  }

 private:
  absl::Status StartModels() {
    ConfigSourceOptions options = ConfigSourceOptionsFrom(flags_);
    options.on_config = [this](const std::vector<ConfiguredModel>& models) {
      std::vector<std::string> configured;
      for (const ConfiguredModel& model : models) {
        metrics_.AddModel(model.watched.name);
        configured.push_back(model.watched.name);
      }
      request_log_.Configure(models);
      health_->SetModels(std::move(configured));
    };
    options.check = RequestLog::Check;
    models_ = std::make_unique<ConfigSource>(options, manager_.get());
    if (!flags_.model_config_file.empty()) {
      TFIPU_RETURN_IF_ERROR(models_->StartFromFile(
          flags_.model_config_file, absl::Seconds(flags_.model_config_file_poll_wait_seconds)));
    } else {
      tensorflow::serving::ModelServerConfig config;
      auto* const model = config.mutable_model_config_list()->add_config();
      model->set_name(flags_.model_name);
      model->set_base_path(flags_.model_base_path);
      TFIPU_RETURN_IF_ERROR(models_->Start(config));
    }
    if (!flags_.listen_while_loading) manager_->WaitUntilTried();
    return absl::OkStatus();
  }

  absl::Status StartRest() {
    if (flags_.rest_api_port == 0) return absl::OkStatus();
    RestOptions options;
    options.inference = inference_;
    options.observer = &observer_;
    if (flags_.rest_api_timeout_in_ms > 0) {
      options.timeout = absl::Milliseconds(flags_.rest_api_timeout_in_ms);
    }
    options.enable_cors = flags_.rest_api_enable_cors_support;
    options.max_json_depth = flags_.rest_api_max_json_depth;
    options.statistics = [](const Servable& servable) {
      return ModelStatisticsJson(servable, EngineManager::Global().List());
    };
    if (!flags_.monitoring_config_file.empty()) {
      tensorflow::serving::MonitoringConfig monitoring;
      TFIPU_RETURN_IF_ERROR(ReadTextProto(flags_.monitoring_config_file, &monitoring));
      if (monitoring.prometheus_config().enable()) {
        const std::string& path = monitoring.prometheus_config().path();
        options.pages[path.empty() ? kPrometheusPath : path] = {
            kPrometheusContentType, [this] {
              return absl::StrCat(PrometheusText(), ConnectionMetricsText(budget_.usage()),
                                  SignatureMetricsText(Available()),
                                  EngineMetricsText(EngineManager::Global().List()));
            }};
      }
    }
    rest_queue_ = std::make_unique<compute::ComputeQueue>(&slots_, flags_.rest_api_num_threads, MaxQueued());
    rest_handler_ = std::make_unique<RestHandler>(manager_.get(), rest_queue_.get(), std::move(options));
    net::http1::HttpServerOptions http;
    http.address = ListenAddress(flags_);
    http.port = flags_.rest_api_port == kAnyPort ? 0 : flags_.rest_api_port;
    TFIPU_ASSIGN_OR_RETURN(http.threads, flags_.rest_api_num_io_threads > 0
                                             ? StartIoThreads(flags_.rest_api_num_io_threads)
                                             : SharedIoThreads());
    TFIPU_ASSIGN_OR_RETURN(http.tls, ReadTls(flags_.rest_ssl_config_file));
    http.max_connection_bytes = MaxConnectionBytes();
    http.budget = &budget_;
    http.max_connections = flags_.rest_api_max_connections;
    http.max_header_bytes = static_cast<std::size_t>(flags_.rest_api_max_header_bytes);
    http.max_body_bytes = static_cast<std::size_t>(flags_.rest_api_max_body_bytes);
    http.header_timeout = std::chrono::milliseconds(flags_.rest_api_header_timeout_in_ms);
    http.stall_timeout = std::chrono::milliseconds(flags_.rest_api_stall_timeout_in_ms);
    http.idle_timeout = std::chrono::milliseconds(flags_.rest_api_idle_timeout_in_ms);
    http.call_timeout = std::chrono::milliseconds(std::max(0, flags_.rest_api_timeout_in_ms));
    http.drain_timeout = std::chrono::seconds(std::max(0, flags_.shutdown_grace_seconds));
    http_ = std::make_unique<net::http1::HttpServer>(
        http, [this](HttpExchange* exchange) { rest_handler_->Handle(exchange); });
    std::string error;
    if (!http_->Start(&error))
      return absl::UnavailableError(absl::StrCat("The REST API cannot start: ", error));
    // Scripts wait for TensorFlow Serving's words.
    LogInfo("Exporting HTTP/REST API at:", flags_.bind_address.empty() ? "localhost" : flags_.bind_address,
            ":", http_->port(), " ...");
    return absl::OkStatus();
  }

  absl::Status StartGrpc() {
    if (flags_.port == 0 && flags_.grpc_socket_path.empty()) return absl::OkStatus();
    GrpcServerOptions options;
    options.host = ListenAddress(flags_);
    if (flags_.port != 0) options.port = flags_.port == kAnyPort ? 0 : flags_.port;
    options.unix_socket_path = flags_.grpc_socket_path;
    TFIPU_ASSIGN_OR_RETURN(options.threads, SharedIoThreads());
    TFIPU_ASSIGN_OR_RETURN(options.tls, ReadTls(flags_.ssl_config_file));
    options.max_connection_bytes = MaxConnectionBytes();
    options.budget = &budget_;
    options.channel_arguments = flags_.grpc_channel_arguments;
    options.max_request_bytes = static_cast<std::size_t>(flags_.grpc_max_request_bytes);
    options.max_calls = static_cast<std::size_t>(flags_.grpc_max_calls);
    options.health_service = flags_.enable_grpc_healthcheck_service;
    grpc_queue_ = std::make_unique<compute::ComputeQueue>(&slots_, flags_.grpc_max_threads, MaxQueued());
    RpcServices services;
    services.inference = {manager_.get(), grpc_queue_.get(), &observer_, inference_};
    services.background = &background_queue_;
    services.reload = [this](const tensorflow::serving::ModelServerConfig& config) {
      return models_->Reload(config);
    };
    std::vector<RpcMethod> methods = ServingMethods(services);
    if (flags_.enable_profiler) {
      for (RpcMethod& method : ProfilerMethods(&background_queue_)) methods.push_back(std::move(method));
    }
    for (RpcMethod& method : ReflectionMethods(methods, options.health_service)) {
      methods.push_back(std::move(method));
    }
    std::string error;
    grpc_ = GrpcServer::Start(std::move(options), std::move(methods), &error);
    if (grpc_ == nullptr) return absl::UnavailableError(absl::StrCat("The gRPC API cannot start: ", error));
    for (const std::string& argument : grpc_->ignored_arguments()) {
      LogInfo("--grpc_channel_arguments: ", argument, " has no effect here.");
    }
    health_->Start([this](const std::string& service, bool healthy) { grpc_->SetHealth(service, healthy); });
    if (flags_.port != 0) {
      LogInfo("Running gRPC ModelServer at ", flags_.bind_address.empty() ? "0.0.0.0" : flags_.bind_address,
              ":", grpc_->port(), " ...");
    }
    if (!flags_.grpc_socket_path.empty()) {
      LogInfo("Running gRPC ModelServer at UNIX socket ", flags_.grpc_socket_path, " ...");
    }
    return absl::OkStatus();
  }

  // Under another name first: whoever waits for the file reads it whole.
  absl::Status WritePorts() {
    if (flags_.port_file.empty()) return absl::OkStatus();
    const std::string unfinished = absl::StrCat(flags_.port_file, ".unfinished");
    std::ofstream file(unfinished);
    file << "{\"grpc\": " << (grpc_ == nullptr ? 0 : grpc_->port())
         << ", \"rest\": " << (http_ == nullptr ? 0 : http_->port()) << "}\n";
    file.close();
    if (!file || std::rename(unfinished.c_str(), flags_.port_file.c_str()) != 0) {
      return absl::UnavailableError(absl::StrCat("--port_file: cannot write ", flags_.port_file, "."));
    }
    return absl::OkStatus();
  }

  std::vector<std::shared_ptr<const Servable>> Available() const {
    std::vector<std::shared_ptr<const Servable>> servables;
    for (const ServableState& state : manager_->AllStates()) {
      if (state.stage != ServableStage::kAvailable) continue;
      auto servable = manager_->Find({state.id.name, state.id.version, ""});
      if (servable.ok()) servables.push_back(*std::move(servable));
    }
    return servables;
  }

  // Null for no file.
  static absl::StatusOr<std::optional<net::TlsSettings>> ReadTls(const std::string& file) {
    if (file.empty()) return std::nullopt;
    tensorflow::serving::SSLConfig ssl;
    TFIPU_RETURN_IF_ERROR(ReadTextProto(file, &ssl));
    return net::TlsSettings{ssl.server_key(), ssl.server_cert(), ssl.custom_ca(), ssl.client_verify()};
  }

  absl::StatusOr<std::shared_ptr<net::IoThreads>> StartIoThreads(int count) const {
    std::string error;
    auto threads = net::IoThreads::Start(count, std::chrono::microseconds(flags_.io_spin_us), &error);
    if (threads == nullptr) return absl::UnavailableError(error);
    return threads;
  }

  // Those of both APIs, unless REST has its own.
  absl::StatusOr<std::shared_ptr<net::IoThreads>> SharedIoThreads() {
    if (io_threads_ == nullptr) {
      TFIPU_ASSIGN_OR_RETURN(io_threads_, StartIoThreads(0));
    }
    return io_threads_;
  }

  std::size_t MaxConnectionBytes() const {
    if (flags_.max_connection_bytes > 0) return static_cast<std::size_t>(flags_.max_connection_bytes);
    return kConnectionBytesBesides + 2 * static_cast<std::size_t>(std::max(flags_.grpc_max_request_bytes,
                                                                           flags_.rest_api_max_body_bytes));
  }

  std::size_t MaxQueued() const {
    return static_cast<std::size_t>(std::max<std::int64_t>(0, flags_.max_queued_calls));
  }

  // Each is used by those below it.
  const Flags flags_;
  compute::ComputeSlots slots_{{flags_.compute_slots, compute::BecomeComputeThread}};
  // Loading and profiling take as long as they take, and hold up no call.
  compute::ComputeSlots background_{{kBackgroundThreads}};
  compute::ComputeQueue background_queue_{&background_, kBackgroundThreads, kMaxBackgroundTasks};
  const ExecutionConfig execution_;
  InferenceOptions inference_;
  net::MemoryBudget budget_;
  RequestMetrics metrics_;
  RequestLog request_log_;
  Observer observer_;
  std::unique_ptr<Health> health_;
  std::unique_ptr<Manager> manager_;
  std::unique_ptr<ConfigSource> models_;
  std::unique_ptr<compute::ComputeQueue> grpc_queue_, rest_queue_;
  std::unique_ptr<RestHandler> rest_handler_;
  std::shared_ptr<net::IoThreads> io_threads_;
  std::unique_ptr<net::http1::HttpServer> http_;
  std::unique_ptr<GrpcServer> grpc_;
  absl::Mutex shutdown_mutex_;
  bool shut_down_ ABSL_GUARDED_BY(shutdown_mutex_) = false;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Flags& flags) {
  TFIPU_RETURN_IF_ERROR(CheckFlags(flags));
  LogFlagsWithoutEffect(flags);
  TFIPU_ASSIGN_OR_RETURN(ExecutionConfig execution, ExecutionConfigFrom(flags));
  auto impl = std::make_unique<Impl>(flags, std::move(execution));
  absl::Status status = impl->Start();
  if (!status.ok()) {
    impl->Shutdown();
    return status;
  }
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { impl_->Shutdown(); }
void Server::Shutdown() { impl_->Shutdown(); }

}  // namespace tfipu::serving
