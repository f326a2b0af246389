#include "serving/api/rpc_methods.h"

#include <memory>
#include <string>
#include <utility>

#include "serving/api/metric_increases.h"
#include "serving/api/model_info.h"
#include "serving/api/rpc_inference.h"
#include "serving/api/rpc_messages.h"
#include "tensorflow_serving/apis/get_model_metadata.pb.h"
#include "tensorflow_serving/apis/get_model_status.pb.h"
#include "tensorflow_serving/apis/model_management.pb.h"

namespace tfipu::serving {
namespace {

// A call that only looks something up.
template <typename Request, typename Response>
void HandleLookup(const ServableDirectory& directory,
                  absl::Status (*function)(const ServableDirectory&, const Request&, Response*),
                  RpcCall* call) {
  Request request;
  Response response;
  absl::Status status = ParseOrError(call->request(), &request);
  if (status.ok()) status = function(directory, request, &response);
  if (status.ok()) status = WriteReply(call, response);
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
  absl::Status accepted = services.background->Run(false, [&services, call] {
    tensorflow::serving::ReloadConfigRequest request;
    absl::Status status = ParseOrError(call->request(), &request);
    const MetricIncreases metrics(request);
    if (status.ok()) status = Reload(services, request);
    if (status.ok()) {
      tensorflow::serving::ReloadConfigResponse response;
      response.mutable_status();
      metrics.AddTo(&response);
      status = WriteReply(call, response);
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
  const std::pair<const char*, void (*)(const InferenceServices&, RpcCall*)> inference[] = {
      {"Predict", BeginPredict},
      {"Classify", BeginClassify},
      {"Regress", BeginRegress},
      {"MultiInference", BeginMultiInference},
  };
  for (const auto& [name, begin] : inference) {
    methods.push_back(
        {prediction + name, [services, begin = begin](RpcCall* call) { begin(services->inference, call); }});
  }
  methods.push_back({prediction + "GetModelMetadata", [services](RpcCall* call) {
                       HandleLookup<GetModelMetadataRequest, GetModelMetadataResponse>(
                           *services->inference.directory, GetModelMetadata, call);
                     }});
  methods.push_back({model + "GetModelStatus", [services](RpcCall* call) {
                       HandleLookup<GetModelStatusRequest, GetModelStatusResponse>(
                           *services->inference.directory, GetModelStatus, call);
                     }});
  methods.push_back(
      {model + "HandleReloadConfigRequest", [services](RpcCall* call) { HandleReload(*services, call); }});
  return methods;
}

}  // namespace tfipu::serving
