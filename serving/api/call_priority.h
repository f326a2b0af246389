// How a client says that a call goes before others.
#ifndef SERVING_API_CALL_PRIORITY_H_
#define SERVING_API_CALL_PRIORITY_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {

// The name of the HTTP header, and of the gRPC metadata. Among the calls that wait for a device, those of
// high priority go first; it means nothing to models that use none.
inline constexpr char kPriorityField[] = "x-priority";

// Takes the field's value, "high" or "normal"; "", when it was not sent, is normal. InvalidArgument for
// anything else.
absl::Status SetPriority(absl::string_view value, CallContext* context);

}  // namespace tfipu::serving

#endif  // SERVING_API_CALL_PRIORITY_H_
