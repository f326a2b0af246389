#include "serving/api/rpc_messages.h"

#include <cstdint>
#include <string>

#include "serving/api/error_text.h"

namespace tfipu::serving {

RpcStatus ToRpcStatus(const absl::Status& status) {
  RpcStatus rpc;
  rpc.code = static_cast<int>(status.code());
  rpc.message = ErrorText(status.message());
  return rpc;
}

absl::Status WriteReply(RpcCall* call, const google::protobuf::MessageLite& message) {
  const std::size_t size = message.ByteSizeLong();
  if (size > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return absl::InvalidArgumentError(
        absl::StrCat("The reply would take ", size, " bytes, more than the 2 GiB that a message can have"));
  }
  void* const bytes = call->AllocateReply(size);
  if (bytes == nullptr) return absl::ResourceExhaustedError("There is no room for the reply.");
  message.SerializeWithCachedSizesToArray(static_cast<std::uint8_t*>(bytes));
  return absl::OkStatus();
}

}  // namespace tfipu::serving
