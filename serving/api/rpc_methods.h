// The gRPC services as methods for a transport.
#ifndef SERVING_API_RPC_METHODS_H_
#define SERVING_API_RPC_METHODS_H_

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "serving/api/inference_call.h"
#include "serving/api/rpc.h"
#include "serving/compute/compute_slots.h"
#include "tensorflow_serving/config/model_server_config.pb.h"

namespace tfipu::serving {

// What the services work with. All of it outlives the transport.
struct RpcServices {
  InferenceServices inference;
  compute::ComputeQueue* background = nullptr;  // runs what takes as long as it takes: loading
  // ModelService.HandleReloadConfigRequest: makes the server serve this config, and returns when it does or
  // cannot. Unset: the method answers FailedPrecondition.
  std::function<absl::Status(const tensorflow::serving::ModelServerConfig&)> reload;
};

// tensorflow.serving.PredictionService: Predict, Classify, Regress, MultiInference, GetModelMetadata; and
// tensorflow.serving.ModelService: GetModelStatus, HandleReloadConfigRequest.
std::vector<RpcMethod> ServingMethods(const RpcServices& services);

// tensorflow.ProfilerService: Profile, Terminate, Monitor. `background` runs profiles, which take as long as
// the client asks for.
std::vector<RpcMethod> ProfilerMethods(compute::ComputeQueue* background);

// grpc.reflection.v1 and v1alpha over TensorFlow's descriptor pool, for the services of `methods` and, if the
// transport serves it, `health`.
std::vector<RpcMethod> ReflectionMethods(const std::vector<RpcMethod>& methods, bool health);

}  // namespace tfipu::serving

#endif  // SERVING_API_RPC_METHODS_H_
