// One client's connection: HTTP/2 through nghttp2, gRPC calls on its streams.
#ifndef SERVING_GRPC_HTTP2_CONNECTION_H_
#define SERVING_GRPC_HTTP2_CONNECTION_H_

#include <nghttp2/nghttp2.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serving/api/rpc.h"
#include "serving/grpc/health.h"
#include "serving/grpc/io_loop.h"
#include "serving/grpc/message_coding.h"
#include "serving/grpc/tls.h"

namespace tfipu::serving {

// Times are in microseconds.
struct Http2Settings {
  std::size_t max_request_bytes = 0x7fffffff;
  std::size_t max_reply_bytes = 0xffffffff;
  std::size_t max_calls = 0;                    // of all connections; 0: no bound
  std::uint32_t max_concurrent_streams = 1000;  // of one connection
  std::uint32_t max_header_bytes = 64 << 10;
  std::optional<MessageEncoding> reply_encoding;
  std::int64_t keepalive_time = INT64_MAX;  // without any byte before a ping asks whether the client is there
  std::int64_t keepalive_timeout = 20 * 1000000;
  std::int64_t max_idle = INT64_MAX;  // without calls
  std::int64_t max_age = INT64_MAX;
  std::int64_t max_age_grace = INT64_MAX;
  std::int64_t handshake_timeout = 20 * 1000000;
};

// Shared by all connections of a server. Outlives them.
struct ConnectionContext {
  struct Method {
    RpcMethod rpc;
    bool health_watch = false;
  };
  Http2Settings settings;
  std::map<std::string, Method, std::less<>> methods;
  Health health;
  std::vector<IoLoop*> loops;
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* options = nullptr;
  std::atomic<std::size_t> calls{0};  // given to methods and not finished
};

class GrpcCall;

// Belongs to one loop and lives on its thread. Deletes itself when the connection is over; calls that are
// still with their methods outlive it and go when these finish them.
class Http2Connection final : public SocketWatcher {
 public:
  // Owns `fd`. `closed` is told last of all, when the connection is about to be deleted.
  Http2Connection(IoLoop* loop, ConnectionContext* context, int fd, std::unique_ptr<TlsSession> tls,
                  std::function<void(Http2Connection*)> closed);
  Http2Connection(const Http2Connection&) = delete;
  Http2Connection& operator=(const Http2Connection&) = delete;

  // Begins to serve. False when that cannot be; the connection is gone then.
  bool Start();
  void OnSocket(std::uint32_t events) override;
  // Takes no more calls, and closes when those that it has are finished.
  void Drain();
  // Cancels all calls and closes. The connection is gone after it.
  void Close();
  // Looks after timeouts. `now`: IoLoop::Now(). May close.
  void OnTick(IoLoop::TimePoint now);
  // Tells those who watch the health of a service that has changed.
  void OnHealthChanged();

  // For nghttp2's callbacks and for calls; on the loop's thread.
  int OnBeginHeaders(const nghttp2_frame* frame);
  int OnHeader(const nghttp2_frame* frame, std::string_view name, std::string_view value);
  int OnFrame(const nghttp2_frame* frame);
  int OnData(std::int32_t stream, std::string_view data);
  int OnStreamClosed(std::int32_t stream);
  ssize_t ReadReply(GrpcCall* call, std::size_t length, std::uint32_t* flags);
  int SendReply(GrpcCall* call, const unsigned char* frame_head, std::size_t length);
  // A method has finished a call.
  void OnFinished(GrpcCall* call);

 private:
  friend class GrpcCall;

  ~Http2Connection();
  GrpcCall* CallOf(std::int32_t stream) const;
  // The headers of a call are complete.
  void Accept(GrpcCall* call);
  // Ends a call without its method.
  void Refuse(GrpcCall* call, int code, std::string message);
  void RespondHttpError(GrpcCall* call, const char* status);
  void SendHeaders(GrpcCall* call);
  // Lets nghttp2 ask for what was added to the call's outgoing bytes, or for its end.
  void SendOn(GrpcCall* call);
  void SendError(GrpcCall* call, int code, const std::string& message);
  // Puts a message of the call's on its way; not for the last one of a unary call.
  void PushReply(GrpcCall* call, Bytes message);
  // Gives the call's next complete message to its method, on this thread or another loop's. Whether it was
  // this.
  bool Dispatch(GrpcCall* call, bool more_waiting);
  void RunReady();
  void StartWatch(GrpcCall* call);
  void OnDeadline(GrpcCall* call);
  void Detach(GrpcCall* call);
  bool Receive();
  bool Consume(std::string_view data);
  // Writes what there is. False when the connection is broken.
  bool Flush();
  bool WriteOut();
  // Deletes the connection when it is over. Whether it did.
  bool CloseIfOver();

  IoLoop* const loop_;
  ConnectionContext* const context_;
  const int fd_;
  const std::unique_ptr<TlsSession> tls_;
  const std::function<void(Http2Connection*)> closed_;
  nghttp2_session* session_ = nullptr;

  std::string out_;  // frames, from out_begin_ on
  std::size_t out_begin_ = 0;
  std::string tls_out_;  // the same encrypted, from tls_begin_ on
  std::size_t tls_begin_ = 0;
  bool wants_write_ = false;
  bool over_ = false;
  bool draining_ = false;

  GrpcCall* calls_ = nullptr;  // head of the list of calls with a stream
  std::size_t call_count_ = 0;
  std::vector<GrpcCall*> ready_;
  bool running_ready_ = false;
  IoLoop::TimePoint last_flush_ = 0;
  // How long methods have lately taken on this thread, in microseconds; measured while several calls wait.
  IoLoop::TimePoint method_time_ = 0;

  const IoLoop::TimePoint created_;
  IoLoop::TimePoint last_read_;
  IoLoop::TimePoint idle_since_;
  IoLoop::TimePoint pinged_ = 0;
  IoLoop::TimePoint drained_at_ = 0;
  bool handshaken_ = false;
};

// Callbacks and options for ConnectionContext; freed by their own functions.
nghttp2_session_callbacks* NewSessionCallbacks();
nghttp2_option* NewSessionOptions();

}  // namespace tfipu::serving

#endif  // SERVING_GRPC_HTTP2_CONNECTION_H_
