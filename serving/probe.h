// The health client in the server's binary.
#ifndef SERVING_PROBE_H_
#define SERVING_PROBE_H_

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "serving/flags.h"

namespace tfipu::serving {

// Whom --probe asks: its value, or where it has none the gRPC address that the other flags give.
// InvalidArgument where that is none.
absl::StatusOr<std::string> ProbeTarget(const Flags& flags);

// Asks the gRPC health service at "host:port", "[IPv6 address]:port" or "unix:/path", once. With "/name"
// after the port it asks for that model. OK: it serves. Anything else says what was found instead:
// InvalidArgument where the target is not one, Unavailable or DeadlineExceeded where nothing that is healthy
// answers. For programs that have nothing else to do: it blocks. It speaks the few frames of HTTP/2 that one
// call takes over a plain socket, so that a container needs neither a gRPC library nor a shell to be watched.
absl::Status Probe(absl::string_view target, std::chrono::milliseconds timeout);

}  // namespace tfipu::serving

#endif  // SERVING_PROBE_H_
