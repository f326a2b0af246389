// Calls as the gRPC transport hands them over; see there.
#ifndef SERVING_API_RPC_H_
#define SERVING_API_RPC_H_

#include "serving/net/http2/rpc_call.h"

namespace tfipu::serving {

using net::http2::RpcCall;
using net::http2::RpcMethod;
using net::http2::RpcStatus;
using net::http2::Slice;

}  // namespace tfipu::serving

#endif  // SERVING_API_RPC_H_
