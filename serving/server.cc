#include "serving/server.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "cc/base/status_macros.h"
#include "cc/engine/engine_manager.h"
#include "serving/api/call_observer.h"
#include "serving/api/inference.h"
#include "serving/api/replay_log.h"
#include "serving/api/rpc_methods.h"
#include "serving/compute/compute_slots.h"
#include "serving/compute/compute_thread.h"
#include "serving/config.pb.h"
#include "serving/core/log.h"
#include "serving/core/manager.h"
#include "serving/core/text_proto.h"
#include "serving/device_options.h"
#include "serving/grpc/grpc_server.h"
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
#include "serving/servables/saved_model_loader.h"
#include "serving/server/flag_checks.h"
#include "serving/server/model_health.h"
#include "serving/server/state_log.h"
#include "serving/session_config.h"
#include "serving/sources/config_source.h"
#include "serving/sources/model_config.h"
#include "tensorflow/core/platform/env.h"

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
  if (flags.load_timeout_seconds > 0) options.load_timeout = absl::Seconds(flags.load_timeout_seconds);
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
  Impl(const Flags& flags, SavedModelLoaderOptions loading)
      : flags_(flags),
        loading_(std::move(loading)),
        budget_(flags_.max_inflight_bytes > 0 ? static_cast<std::size_t>(flags_.max_inflight_bytes)
                                              : kDefaultInflightBytes,
                /*one_beyond=*/flags_.max_inflight_bytes <= 0),
        observer_(&metrics_, &request_log_) {
    inference_.check_method_name = flags_.enable_signature_method_name_check;
    inference_.tensor_content = flags_.enable_serialization_as_tensor_content;
    if (flags_.enable_model_warmup) {
      loading_.replay = [this](const Servable& servable, const tensorflow::serving::PredictionLog& log) {
        return ReplayLog(servable, log, inference_);
      };
    }
  }

  absl::Status Load() {
    SetEngineDefaults(flags_);
    TFIPU_ASSIGN_OR_RETURN(const PjrtOptions devices, PjrtOptionsFrom(flags_));
    ConfigurePjrt(devices);
    ManagerOptions manager_options = ManagerOptionsFrom(flags_);
    manager_options.on_change = [this](const ServableState& state) {
      state_log_.Changed(state);
      health_->Update();
    };
    manager_ = std::make_unique<Manager>(std::move(manager_options), [this](const VersionSource& source) {
      return MakeSavedModelLoader(source, loading_);
    });
    health_ = std::make_unique<ModelHealth>(manager_.get());
    return StartModels();
  }

  absl::Status Listen() {
    TFIPU_RETURN_IF_ERROR(StartRest());
    TFIPU_RETURN_IF_ERROR(StartGrpc());
    return WritePorts();
  }

  // Returns false when a load still runs, which uses this object.
  bool Shutdown() {
    absl::MutexLock lock(&shutdown_mutex_);
    if (manager_ == nullptr || shut_down_) return loads_ended_;
    shut_down_ = true;
    health_->Stop();
    if (models_ != nullptr) models_->Stop();
    manager_->StopLoading();
    Drain();
    // Calls that a transport gave up still hold servables until they end.
    grpc_queue_.reset();
    rest_queue_.reset();
    loads_ended_ = manager_->Stop(absl::Now());
    return loads_ended_;
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

  void Drain() {
    const std::chrono::seconds grace(std::max(0, flags_.shutdown_grace_seconds));
    const auto drain_rest = [this] {
      if (http_ != nullptr) http_->Shutdown();
    };
    std::thread rest;
    try {
      rest = std::thread(drain_rest);
    } catch (const std::exception&) {
      // One after the other, then.
    }
    if (grpc_ != nullptr) grpc_->Shutdown(grace);
    rest.joinable() ? rest.join() : drain_rest();
  }

  // Under another name first: whoever waits for the file reads it whole.
  absl::Status WritePorts() {
    if (flags_.port_file.empty()) return absl::OkStatus();
    const std::string unfinished = absl::StrCat(flags_.port_file, ".unfinished");
    std::error_code error;
    std::filesystem::remove(unfinished, error);  // which might be something that cannot be written
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
  SavedModelLoaderOptions loading_;
  InferenceOptions inference_;
  net::MemoryBudget budget_;
  RequestMetrics metrics_;
  RequestLog request_log_;
  Observer observer_;
  StateLog state_log_;
  std::unique_ptr<ModelHealth> health_;
  std::unique_ptr<Manager> manager_;
  std::unique_ptr<ConfigSource> models_;
  std::unique_ptr<compute::ComputeQueue> grpc_queue_, rest_queue_;
  std::unique_ptr<RestHandler> rest_handler_;
  std::shared_ptr<net::IoThreads> io_threads_;
  std::unique_ptr<net::http1::HttpServer> http_;
  std::unique_ptr<GrpcServer> grpc_;
  absl::Mutex shutdown_mutex_;
  bool shut_down_ ABSL_GUARDED_BY(shutdown_mutex_) = false;
  bool loads_ended_ ABSL_GUARDED_BY(shutdown_mutex_) = true;
};

namespace {

// No thread, no memory: an error as any other.
template <typename Work>
absl::Status WithoutExceptions(const Work& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    return absl::ResourceExhaustedError(absl::StrCat("The system refused something: ", error.what()));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Load(const Flags& flags) {
  std::unique_ptr<Server> server;
  TFIPU_RETURN_IF_ERROR(WithoutExceptions([&]() -> absl::Status {
    TFIPU_RETURN_IF_ERROR(CheckFlags(flags));
    LogFlagsWithoutEffect(flags);
    TFIPU_ASSIGN_OR_RETURN(SavedModelLoaderOptions loading, LoaderOptionsFrom(flags));
    server.reset(new Server(std::make_unique<Impl>(flags, std::move(loading))));
    return server->impl_->Load();
  }));
  return server;
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() {
  // What still runs uses it, until the process ends.
  if (!impl_->Shutdown()) impl_.release();
}

absl::Status Server::Listen() {
  return WithoutExceptions([this] { return impl_->Listen(); });
}

void Server::Shutdown() { impl_->Shutdown(); }

}  // namespace tfipu::serving
