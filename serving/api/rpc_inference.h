// Inference calls over gRPC.
#ifndef SERVING_API_RPC_INFERENCE_H_
#define SERVING_API_RPC_INFERENCE_H_

#include "serving/api/inference_call.h"
#include "serving/api/rpc.h"

namespace tfipu::serving {

// Each begins a call of PredictionService, which finishes `call` sooner or later.
void BeginPredict(const InferenceServices& services, RpcCall* call);
void BeginClassify(const InferenceServices& services, RpcCall* call);
void BeginRegress(const InferenceServices& services, RpcCall* call);
void BeginMultiInference(const InferenceServices& services, RpcCall* call);

}  // namespace tfipu::serving

#endif  // SERVING_API_RPC_INFERENCE_H_
