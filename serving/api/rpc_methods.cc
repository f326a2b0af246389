#include "serving/api/rpc_methods.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/protobuf/arena.h"
#include "serving/api/call_priority.h"
#include "serving/api/error_text.h"
#include "serving/api/example_input.h"
#include "serving/api/metric_increases.h"
#include "serving/api/model_info.h"
#include "serving/api/model_spec.h"
#include "serving/api/predict_reply.h"
#include "serving/api/predict_wire.h"
#include "serving/api/signature_call.h"
#include "serving/api/slice_stream.h"
#include "tensorflow_serving/apis/get_model_metadata.pb.h"
#include "tensorflow_serving/apis/get_model_status.pb.h"
#include "tensorflow_serving/apis/model_management.pb.h"
#include "tensorflow_serving/apis/prediction_log.pb.h"

namespace tfipu::serving {
namespace {

using tensorflow::serving::PredictionLog;

RpcStatus ToRpcStatus(const absl::Status& status) {
  RpcStatus rpc;
  rpc.code = static_cast<int>(status.code());
  rpc.message = ErrorText(status.message());
  return rpc;
}

template <typename Message>
bool Parse(const std::vector<Slice>& bytes, Message* message) {
  if (bytes.size() == 1 && bytes[0].size <= static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return message->ParseFromArray(bytes[0].data, static_cast<int>(bytes[0].size));
  }
  SliceStream stream(bytes);
  return message->ParseFromZeroCopyStream(&stream);
}

template <typename Message>
absl::Status ParseOrError(const std::vector<Slice>& bytes, Message* message) {
  if (Parse(bytes, message)) return absl::OkStatus();
  // gRPC's word for a request that its server cannot parse.
  return absl::InternalError(
      absl::StrCat("The request is not a ", absl::string_view(message->GetDescriptor()->name())));
}

absl::Status Reply(RpcCall* call, const google::protobuf::MessageLite& message) {
  const std::size_t size = message.ByteSizeLong();
  if (size > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return absl::InvalidArgumentError(
        absl::StrCat("The reply would take ", size, " bytes, more than the 2 GiB that a message can have"));
  }
  message.SerializeWithCachedSizesToArray(static_cast<std::uint8_t*>(call->AllocateReply(size)));
  return absl::OkStatus();
}

CallContext ContextOf(RpcCall* call) {
  CallContext context;
  const std::int64_t deadline = call->deadline_unix_us();
  if (deadline != std::numeric_limits<std::int64_t>::max()) context.deadline = absl::FromUnixMicros(deadline);
  context.cancelled = [call] { return call->cancelled(); };
  return context;
}

// Whether a call that waited for a thread is still worth running.
absl::Status StillWanted(const CallContext& context) {
  if (context.cancelled()) return absl::CancelledError("The client cancelled the call before it was run");
  if (context.deadline != absl::InfiniteFuture() && absl::Now() >= context.deadline) {
    return absl::DeadlineExceededError("The deadline passed before the call was run");
  }
  return absl::OkStatus();
}

// What every inference call does around its own work: it tells the observer, and finishes the call.
class InferenceCall {
 public:
  InferenceCall(const RpcServices& services, const char* api, RpcCall* call)
      : services_(services),
        api_(api),
        call_(call),
        context_(ContextOf(call)),
        started_ns_(services.observer != nullptr ? absl::GetCurrentTimeNanos() : 0) {}

  RpcCall* call() const { return call_; }
  const CallContext& context() const { return context_; }
  const RpcServices& services() const { return services_; }

  // What the client says of the call beside its message.
  absl::Status ReadMetadata() { return SetPriority(call_->metadata(kPriorityField), &context_); }

  // The version that runs; from here on a log may be wanted.
  void Found(std::shared_ptr<const Servable> servable) {
    servable_ = std::move(servable);
    if (services_.observer != nullptr && services_.observer->WantsLog(servable_->id())) {
      log_ = std::make_unique<PredictionLog>();
    }
  }
  const Servable& servable() const { return *servable_; }
  // What of it runs, once that is known.
  void Found(const Signature* signature) { signature_ = signature; }
  PredictionLog* log() const { return log_.get(); }

  // Runs `work` in this thread or another. `job` keeps alive what `work` uses.
  template <typename Job>
  static void Dispatch(bool expected_short, Job job) {
    if (expected_short) {
      job.Run();
      return;
    }
    auto shared = std::make_shared<Job>(std::move(job));
    absl::Status status = shared->frame.services_.pool->Run(false, [shared] { shared->Run(); });
    if (!status.ok()) shared->frame.Finish(status);
  }

  void StartRun() {
    if (services_.observer != nullptr) run_started_ns_ = absl::GetCurrentTimeNanos();
  }
  void EndRun() {
    if (services_.observer != nullptr) run_ns_ = absl::GetCurrentTimeNanos() - run_started_ns_;
  }
  void CountExamples(int examples) { examples_ = examples; }

  // Ends the call; nothing of it may be touched after.
  void Finish(const absl::Status& status, const std::string& model = "") {
    if (services_.observer != nullptr) {
      CallRecord record;
      record.model =
          servable_ != nullptr ? absl::string_view(servable_->id().name) : absl::string_view(model);
      record.api = api_;
      record.entrypoint = "GRPC";
      record.signature = signature_;
      record.status = status;
      record.latency = absl::Nanoseconds(absl::GetCurrentTimeNanos() - started_ns_);
      record.runtime = absl::Nanoseconds(run_ns_);
      record.examples = examples_;
      services_.observer->Finished(record);
      if (log_ != nullptr && status.ok()) services_.observer->Log(servable_->id(), std::move(log_));
    }
    call_->Finish(ToRpcStatus(status));
  }

 private:
  const RpcServices& services_;
  const char* api_;
  RpcCall* call_;
  CallContext context_;
  std::shared_ptr<const Servable> servable_;
  const Signature* signature_ = nullptr;
  std::unique_ptr<PredictionLog> log_;
  std::int64_t started_ns_;
  std::int64_t run_started_ns_ = 0;
  std::int64_t run_ns_ = 0;
  int examples_ = 0;
};

// Predict, between the parsing of the request and the end of the call.
struct PredictJob {
  InferenceCall frame;
  const Signature* signature = nullptr;
  PredictInputs request;

  void Run() { frame.Finish(RunToReply()); }

  absl::Status RunToReply() {
    if (absl::Status status = StillWanted(frame.context()); !status.ok()) return status;
    std::vector<tensorflow::Tensor> outputs;
    frame.StartRun();
    absl::Status status =
        frame.servable().Run(*signature, request.inputs, request.outputs, frame.context(), &outputs);
    frame.EndRun();
    if (!status.ok()) return status;
    PredictReply reply(frame.servable().id(), *signature, request.outputs, outputs,
                       frame.services().inference.tensor_content);
    std::size_t size = 0;
    if (absl::Status measured = reply.Measure(&size); !measured.ok()) return measured;
    void* bytes = frame.call()->AllocateReply(size);
    reply.Write(bytes);
    if (frame.log() != nullptr) {
      Parse(frame.call()->request(), frame.log()->mutable_predict_log()->mutable_request());
      frame.log()->mutable_predict_log()->mutable_response()->ParseFromArray(bytes, static_cast<int>(size));
    }
    return absl::OkStatus();
  }
};

void HandlePredict(const RpcServices& services, RpcCall* call) {
  PredictJob job{InferenceCall(services, "Predict", call), nullptr, {}};
  PredictTarget target;
  const auto fail = [&](absl::Status status) {
    job.frame.Finish(UnlessMalformed(call->request(), std::move(status)), target.model.name);
  };
  if (absl::Status status = ParsePredictTarget(call->request(), &target); !status.ok()) return fail(status);
  if (absl::Status status = job.frame.ReadMetadata(); !status.ok()) return fail(status);
  if (!target.has_model_spec) return fail(absl::InvalidArgumentError("Missing ModelSpec"));
  auto servable = services.directory->Find(target.model);
  if (!servable.ok()) return fail(servable.status());
  job.frame.Found(*std::move(servable));
  auto signature =
      FindPredictSignature(job.frame.servable(), target.signature_name, services.inference.check_method_name);
  if (!signature.ok()) return fail(signature.status());
  job.signature = *signature;
  job.frame.Found(*signature);
  absl::Status read = ReadPredictInputs(call->request(), **signature, &job.request);
  if (!read.ok()) return job.frame.Finish(read);
  const bool expected_short = job.frame.servable().ExpectedShort(**signature);
  InferenceCall::Dispatch(expected_short, std::move(job));
}

// Classify, Regress and MultiInference: whole messages, on an arena.
template <typename Request, typename Response>
struct MessageJob {
  using Function = absl::Status (*)(const Servable&, const Request&, const InferenceOptions&,
                                    const CallContext&, Response*);
  using LogSlot = void (*)(PredictionLog*, const Request&, const Response&);

  InferenceCall frame;
  Function function = nullptr;
  LogSlot log_slot = nullptr;
  std::unique_ptr<google::protobuf::Arena> arena = std::make_unique<google::protobuf::Arena>();
  Request* request = google::protobuf::Arena::Create<Request>(arena.get());

  void Run() { frame.Finish(RunToReply()); }

  absl::Status RunToReply() {
    if (absl::Status status = StillWanted(frame.context()); !status.ok()) return status;
    auto* response = google::protobuf::Arena::Create<Response>(arena.get());
    frame.StartRun();
    absl::Status status =
        function(frame.servable(), *request, frame.services().inference, frame.context(), response);
    frame.EndRun();
    if (!status.ok()) return status;
    frame.CountExamples(ExampleCount(request->input()));
    if (frame.log() != nullptr) log_slot(frame.log(), *request, *response);
    return Reply(frame.call(), *response);
  }
};

const tensorflow::serving::ModelSpec& SpecOf(const tensorflow::serving::MultiInferenceRequest& request) {
  return request.tasks().empty() ? tensorflow::serving::ModelSpec::default_instance()
                                 : request.tasks(0).model_spec();
}
template <typename Request>
const tensorflow::serving::ModelSpec& SpecOf(const Request& request) {
  return request.model_spec();
}

template <typename Request, typename Response>
void HandleMessages(const RpcServices& services, const char* api,
                    typename MessageJob<Request, Response>::Function function,
                    typename MessageJob<Request, Response>::LogSlot log_slot, RpcCall* call) {
  MessageJob<Request, Response> job{InferenceCall(services, api, call), function, log_slot};
  if (absl::Status status = ParseOrError(call->request(), job.request); !status.ok())
    return job.frame.Finish(status);
  const tensorflow::serving::ModelSpec& spec = SpecOf(*job.request);
  if (absl::Status status = job.frame.ReadMetadata(); !status.ok()) {
    return job.frame.Finish(status, spec.name());
  }
  auto servable = services.directory->Find(ModelSpecFrom(spec));
  if (!servable.ok()) return job.frame.Finish(servable.status(), spec.name());
  job.frame.Found(*std::move(servable));
  // The function says what is wrong with a name that is unknown.
  auto signature = FindSignature(job.frame.servable(), spec.signature_name());
  const bool expected_short = signature.ok() && job.frame.servable().ExpectedShort(**signature);
  if (signature.ok() && !std::is_same_v<Request, tensorflow::serving::MultiInferenceRequest>) {
    job.frame.Found(*signature);
  }
  InferenceCall::Dispatch(expected_short, std::move(job));
}

// A call that only looks something up.
template <typename Request, typename Response>
void HandleLookup(const ServableDirectory& directory,
                  absl::Status (*function)(const ServableDirectory&, const Request&, Response*),
                  RpcCall* call) {
  Request request;
  Response response;
  absl::Status status = ParseOrError(call->request(), &request);
  if (status.ok()) status = function(directory, request, &response);
  if (status.ok()) status = Reply(call, response);
  call->Finish(ToRpcStatus(status));
}

absl::Status Reload(const RpcServices& services, const tensorflow::serving::ReloadConfigRequest& request) {
  if (!services.reload) return absl::FailedPreconditionError("This server's models cannot be changed");
  if (!request.config().has_model_config_list()) {
    return absl::InvalidArgumentError(
        "HandleReloadConfigRequest takes a config with a model_config_list; this one has none");
  }
  return services.reload(request.config());
}

void HandleReload(const RpcServices& services, RpcCall* call) {
  // Loading takes as long as it takes.
  absl::Status accepted = services.pool->Run(false, [&services, call] {
    tensorflow::serving::ReloadConfigRequest request;
    absl::Status status = ParseOrError(call->request(), &request);
    const MetricIncreases metrics(request);
    if (status.ok()) status = Reload(services, request);
    if (status.ok()) {
      tensorflow::serving::ReloadConfigResponse response;
      response.mutable_status();
      metrics.AddTo(&response);
      status = Reply(call, response);
    }
    call->Finish(ToRpcStatus(status));
  });
  if (!accepted.ok()) call->Finish(ToRpcStatus(accepted));
}

}  // namespace

std::vector<RpcMethod> ServingMethods(const RpcServices& given) {
  using namespace tensorflow::serving;  // NOLINT: messages only
  // Shared by the methods, for as long as any of them exists.
  auto services = std::make_shared<const RpcServices>(given);
  const std::string prediction = "/tensorflow.serving.PredictionService/";
  const std::string model = "/tensorflow.serving.ModelService/";
  std::vector<RpcMethod> methods;
  methods.push_back({prediction + "Predict", [services](RpcCall* call) { HandlePredict(*services, call); }});
  methods.push_back({prediction + "Classify", [services](RpcCall* call) {
                       HandleMessages<ClassificationRequest, ClassificationResponse>(
                           *services, "Classify", Classify,
                           [](PredictionLog* log, const auto& request, const auto& response) {
                             *log->mutable_classify_log()->mutable_request() = request;
                             *log->mutable_classify_log()->mutable_response() = response;
                           },
                           call);
                     }});
  methods.push_back({prediction + "Regress", [services](RpcCall* call) {
                       HandleMessages<RegressionRequest, RegressionResponse>(
                           *services, "Regress", Regress,
                           [](PredictionLog* log, const auto& request, const auto& response) {
                             *log->mutable_regress_log()->mutable_request() = request;
                             *log->mutable_regress_log()->mutable_response() = response;
                           },
                           call);
                     }});
  methods.push_back({prediction + "MultiInference", [services](RpcCall* call) {
                       HandleMessages<MultiInferenceRequest, MultiInferenceResponse>(
                           *services, "MultiInference", MultiInference,
                           [](PredictionLog* log, const auto& request, const auto& response) {
                             *log->mutable_multi_inference_log()->mutable_request() = request;
                             *log->mutable_multi_inference_log()->mutable_response() = response;
                           },
                           call);
                     }});
  methods.push_back({prediction + "GetModelMetadata", [services](RpcCall* call) {
                       HandleLookup<GetModelMetadataRequest, GetModelMetadataResponse>(
                           *services->directory, GetModelMetadata, call);
                     }});
  methods.push_back({model + "GetModelStatus", [services](RpcCall* call) {
                       HandleLookup<GetModelStatusRequest, GetModelStatusResponse>(*services->directory,
                                                                                   GetModelStatus, call);
                     }});
  methods.push_back(
      {model + "HandleReloadConfigRequest", [services](RpcCall* call) { HandleReload(*services, call); }});
  return methods;
}

}  // namespace tfipu::serving
