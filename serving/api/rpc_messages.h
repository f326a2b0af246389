// Messages and errors of gRPC calls.
#ifndef SERVING_API_RPC_MESSAGES_H_
#define SERVING_API_RPC_MESSAGES_H_

#include <limits>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/message.h"
#include "serving/api/rpc.h"
#include "serving/api/slice_stream.h"

namespace tfipu::serving {

RpcStatus ToRpcStatus(const absl::Status& status);

template <typename Message>
bool ParseMessage(const std::vector<Slice>& bytes, Message* message) {
  if (bytes.size() == 1 && bytes[0].size <= static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return message->ParseFromArray(bytes[0].data, static_cast<int>(bytes[0].size));
  }
  SliceStream stream(bytes);
  return message->ParseFromZeroCopyStream(&stream);
}

// Internal, gRPC's word for a request that its server cannot parse.
template <typename Message>
absl::Status ParseOrError(const std::vector<Slice>& bytes, Message* message) {
  if (ParseMessage(bytes, message)) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("The request is not a ", absl::string_view(message->GetDescriptor()->name())));
}

// Writes the call's reply; it is still to be finished. InvalidArgument when it is larger than protobuf
// allows, ResourceExhausted when the transport has no room for it.
absl::Status WriteReply(RpcCall* call, const google::protobuf::MessageLite& message);

}  // namespace tfipu::serving

#endif  // SERVING_API_RPC_MESSAGES_H_
