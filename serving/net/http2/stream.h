// One gRPC call as the transport sees it.
#ifndef SERVING_NET_HTTP2_STREAM_H_
#define SERVING_NET_HTTP2_STREAM_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serving/net/buffer.h"
#include "serving/net/deflate.h"
#include "serving/net/event_loop.h"
#include "serving/net/http2/message_framing.h"
#include "serving/net/http2/rpc_call.h"
#include "serving/net/http2/settings.h"
#include "serving/net/memory_budget.h"
#include "serving/net/workers.h"

namespace tfipu::serving::net::http2 {

class Stream;

// gRPC status codes that the transport itself answers with.
enum Code {
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kResourceExhausted = 8,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14
};

// What streams share. Outlives them.
struct CallContext {
  Settings settings;
  std::map<std::string, RpcMethod, std::less<>> methods;
  Workers* workers = nullptr;         // null: nothing is large
  std::vector<EventLoop*> loops;      // threads that may lend a hand
  std::atomic<std::size_t> calls{0};  // given to methods and not finished
};

// What a stream asks of its session and its connection.
class StreamHost {
 public:
  // Headers that a body follows, or (without) that end the stream.
  virtual void SendHeaders(Stream* stream, bool body_follows) = 0;
  // An answer of HTTP's, for what is not gRPC.
  virtual void SendHttpError(Stream* stream, const char* status) = 0;
  // ReadReply() has more to give than when it last was asked.
  virtual void SendMore(Stream* stream) = 0;
  // The stream has made use of so many bytes; the client may send as many more.
  virtual void Consumed(Stream* stream, std::size_t bytes) = 0;
  // A message is there for the method. Once until BeginMethod().
  virtual void OnReady(Stream* stream) = 0;
  // What OnAnswerLeft() does should be done soon, not from here.
  virtual void OnAnswerTaken(Stream* stream) = 0;
  // The method or a worker is done with the call; Finished() should follow now.
  virtual void OnStreamMail(Stream* stream) = 0;

 protected:
  ~StreamHost() = default;
};

// The state machine of a call: what comes on the stream goes in, and messages for the method and bytes for
// the client come out; neither nghttp2 nor sockets are known here. It is in three parts that go on by
// themselves:
//
// - from the client: header, then messages, then the end. Unary calls have one message; a second one ends the
//   call at once. Of streaming calls one message at a time is made, when the answer of the one before has
//   been taken by the client; what comes meanwhile waits as it came, and the client's window bounds it. What
//   comes when the call has been answered or refused is dropped.
// - the message: complete, inflated here or by a worker, ready, with the method, finished.
// - to the client: headers, one message at a time, and the status, after which the stream is `ending`.
//
// Lives from its headers until its stream is closed and neither method nor worker have it; see Detach(). What
// RpcCall says of threads holds for its functions; all else is for the connection's loop.
class Stream final : public RpcCall, private Mail, private Work {
 public:
  // `loop` null is for tests: then every thread is the loop's.
  Stream(StreamHost* host, EventLoop* loop, CallContext* context, std::shared_ptr<MemoryAccount> account,
         std::int32_t id);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // RpcCall
  const std::vector<Slice>& request() const override { return request_slices_; }
  std::int64_t deadline_unix_us() const override { return deadline_; }
  std::string_view metadata(std::string_view key) const override;
  bool cancelled() const override { return cancelled_.load(std::memory_order_relaxed); }
  void ReleaseRequest() override;
  bool AtEndOfRound(std::function<void()> callback) override;
  bool Hold(std::size_t bytes) override;
  void* AllocateReply(std::size_t size) override;
  void Finish(RpcStatus status) override;

  // From the client. A header that is false is beyond the bound on headers.
  bool OnHeader(std::string_view name, std::string_view value);
  void OnHeadersEnd();
  void OnData(std::string_view data);
  void OnClientEnd();

  // The method gets the message that OnReady() told of.
  void BeginMethod();
  // What a method, or a worker, has left for this thread.
  void Finished();
  // The client has taken all that was sent so far.
  void OnAnswerLeft();
  // A watch looks whether its message has changed.
  void OnNotified();

  // Ends the call with an error, behind what was sent already.
  void End(int code, std::string_view message);
  // The deadline has passed, or nobody waits for the answer any more.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  // The stream is closed. Whether the call can be deleted now; else it deletes itself when its method or
  // worker is done.
  bool Detach();

  // To the client: up to `length` bytes of the reply are there to be taken by TakeReply(). `*end`: the last
  // ones, the status follows. Without any: 0, and SendMore() will tell of more.
  std::size_t ReadReply(std::size_t length, bool* end);
  // The next bytes of the reply; valid until the next call.
  std::string_view TakeReply(std::size_t length);
  // grpc-status and grpc-message, as headers hold them.
  int end_code() const { return end_code_; }
  const std::string& end_message() const { return end_message_; }

  std::int32_t id() const { return id_; }
  const RpcMethod* method() const { return method_; }
  bool streaming() const { return method_ != nullptr && method_->streaming; }
  bool watching() const { return method_ != nullptr && method_->watch != nullptr; }
  bool has_deadline() const { return deadline_ != INT64_MAX; }
  bool accepts_reply_encoding() const { return accepts_reply_encoding_; }
  MessageEncoding encoding() const { return encoding_; }
  bool bad_encoding() const { return bad_encoding_; }
  bool client_ended() const { return client_ended_; }
  bool ending() const { return ending_; }
  bool with_method() const { return step_ == Step::kWithMethod; }
  bool reply_pending() const { return !reply_out_.empty(); }
  // Neither the method nor anything on its way to it or to the client.
  bool idle() const { return step_ == Step::kReceiving && !reply_pending(); }

  // The connection's.
  Stream* previous = nullptr;
  Stream* next = nullptr;
  std::optional<EventLoop::Timers::iterator> deadline_timer;

 private:
  // Where the message is.
  enum class Step { kReceiving, kInflating, kComplete, kReady, kWithMethod };

  void ReadMetadata(std::string_view name, std::string_view value);
  // Makes messages of data as far as they can be handled now.
  void TakeData(std::string_view* data);
  void OnMessage(Buffer message, bool compressed);
  void OnInflated(Inflater::Result result);
  void OnPlainMessage(Buffer message);
  void MaybeReady();
  void NextMessage();
  void Wait(std::string_view data);
  void StartWatch();
  void PackReply();
  void DeliverFinish();
  void PushReply(Buffer reply);
  void OnMail() override;
  bool DoPart() override;
  bool InThread() const { return loop_ == nullptr || loop_->InThread(); }

  StreamHost* host_;  // null once the stream is closed
  EventLoop* const loop_;
  CallContext* const context_;
  const std::shared_ptr<MemoryAccount> account_;
  const std::int32_t id_;

  // What the headers say.
  const RpcMethod* method_ = nullptr;
  std::string path_;
  bool is_post_ = false;
  bool is_grpc_ = false;
  bool bad_encoding_ = false;
  std::string bad_timeout_;
  MessageEncoding encoding_ = MessageEncoding::kIdentity;
  bool accepts_reply_encoding_ = false;
  std::int64_t deadline_ = INT64_MAX;
  std::size_t header_bytes_ = 0;
  std::size_t counted_ = 0;    // bytes of this object and its headers that the account has
  bool headers_over_ = false;  // the account does not allow more
  std::vector<std::pair<std::string, std::string>> headers_;  // those that are the client's own

  // From the client.
  MessageReader reader_;
  Buffer waiting_;  // a streaming call's bytes that are not looked at yet, from waiting_begin_ on
  std::size_t waiting_begin_ = 0;
  bool client_ended_ = false;
  Step step_ = Step::kReceiving;
  Buffer message_;  // compressed while kInflating
  Buffer inflated_;
  std::optional<Inflater> inflater_;
  Inflater::Result inflate_result_ = Inflater::Result::kMore;  // the worker's

  // With the method.
  Buffer request_;
  std::vector<Slice> request_slices_;
  std::atomic<bool> cancelled_{false};
  std::size_t on_hold_ = 0;  // bytes of Hold()
  Buffer reply_;
  bool reply_refused_ = false;
  bool packing_ = false;  // a worker compresses the reply
  RpcStatus status_;

  // To the client.
  Buffer reply_out_;
  std::size_t reply_taken_ = 0;
  bool headers_sent_ = false;
  bool asked_ = false;   // ReadReply() had nothing
  bool ending_ = false;  // nothing is added any more
  int end_code_ = 0;
  std::string end_message_;
  std::string watched_, told_;
};

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_STREAM_H_
