// The border between the gRPC transport and what answers its calls. Plain C++: the transport is compiled
// without TensorFlow's headers, the methods without those of its libraries.
#ifndef SERVING_NET_HTTP2_RPC_CALL_H_
#define SERVING_NET_HTTP2_RPC_CALL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tfipu::serving::net::http2 {

// A run of a request's bytes, owned by the transport.
struct Slice {
  const void* data = nullptr;
  std::size_t size = 0;
};

// A gRPC status; the codes are gRPC's, which are also absl::StatusCode's.
struct RpcStatus {
  int code = 0;
  std::string message;
};

// One unary call in flight. Owned by the transport, which gives it to a method and keeps it until Finish().
// Used by one thread at a time.
class RpcCall {
 public:
  // The request message's wire bytes, valid until Finish().
  virtual const std::vector<Slice>& request() const = 0;
  // Microseconds since the Unix epoch; INT64_MAX when the client gave no deadline.
  virtual std::int64_t deadline_unix_us() const = 0;
  // The first value of a metadata key (lower case), or empty.
  virtual std::string_view metadata(std::string_view key) const = 0;
  // The client is gone or gave up; the reply reaches nobody. May be asked from any thread.
  virtual bool cancelled() const = 0;
  // Whether reading the request takes longer than a thread that others wait for has.
  bool large() const {
    std::size_t size = 0;
    for (const Slice& slice : request()) size += slice.size;
    return size > kSmallRequest;
  }
  // The request's bytes are not needed any more.
  virtual void ReleaseRequest() {}
  // Calls `callback` when the loop whose thread this is has read all that was ready, before answers are sent.
  // False, and nothing is called, on another thread.
  virtual bool AtEndOfRound(std::function<void()> callback) { return false; }
  // Counts further bytes, that are about to be made of the request, against the bounds of what a connection
  // may make the server hold, until the call is finished. False when that is too much: finish the call with
  // RESOURCE_EXHAUSTED then.
  virtual bool Hold(std::size_t bytes) { return true; }
  // Memory for the reply message's wire bytes, written by the method. At most once, before Finish(). Null
  // when the bounds of what a connection may make the server hold, or the machine, do not allow it; the call
  // ends with RESOURCE_EXHAUSTED then, whatever status it is finished with.
  virtual void* AllocateReply(std::size_t size) = 0;
  // Ends the call; a reply is sent only when the code is 0. Exactly once, from any thread. The call is gone
  // after it.
  virtual void Finish(RpcStatus status) = 0;

  static constexpr std::size_t kSmallRequest = 64 << 10;

 protected:
  ~RpcCall() = default;
};

// A method. `handle` may finish the call before it returns, or later from any thread. When it throws, it has
// not finished the call and will not: the transport ends it with RESOURCE_EXHAUSTED.
struct RpcMethod {
  std::string path;  // "/tensorflow.serving.PredictionService/Predict"
  std::function<void(RpcCall*)> handle;
  // Both sides send any number of messages: each message of the client is handled as a call of its own, one
  // at a time, and answered by one message. A call that fails ends the stream with its status.
  bool streaming = false;
  // Instead of `handle`: one request, answered by a message at once and by another whenever it has changed by
  // RpcServer::Notify(), until the client has enough. Gives the message of the present; false when the
  // request cannot be read. A client that takes its messages slowly misses those in between.
  std::function<bool(std::string_view request, std::string* message)> watch = nullptr;
};

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_RPC_CALL_H_
