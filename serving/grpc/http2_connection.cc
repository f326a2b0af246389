#include "serving/grpc/http2_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace tfipu::serving {
namespace {

// gRPC status codes that the transport itself answers with.
constexpr int kInvalidArgument = 3, kDeadlineExceeded = 4, kResourceExhausted = 8, kUnimplemented = 12,
              kInternal = 13, kUnavailable = 14;

// Frames that may wait for the socket before nghttp2 is asked for more.
constexpr std::size_t kMaxOut = 512 << 10;
// How long replies may wait for further calls of the same read to be run.
constexpr IoLoop::TimePoint kFlushAfter = 100;
// Methods that take longer are worth the two hand-offs to another thread and back, when others wait behind
// them.
constexpr IoLoop::TimePoint kWorthSharing = 30;

nghttp2_nv Header(std::string_view name, std::string_view value, std::uint8_t flags) {
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), flags};
}
// For text that lives as long as the program.
nghttp2_nv StaticHeader(std::string_view name, std::string_view value) {
  return Header(name, value, NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE);
}

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

std::int64_t UnixMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace

// A call, from its headers until both its stream is closed and its method has finished it.
class GrpcCall final : public RpcCall {
 public:
  GrpcCall(Http2Connection* connection, std::int32_t stream)
      : connection(connection),
        loop(connection->loop_),
        context(connection->context_),
        stream(stream),
        assembler(connection->context_->settings.max_request_bytes) {}

  const std::vector<Slice>& request() const override { return request_slices; }
  std::int64_t deadline_unix_us() const override { return deadline; }
  std::string_view metadata(std::string_view key) const override {
    for (const auto& [name, value] : headers) {
      if (name == key) return value;
    }
    return {};
  }
  bool cancelled() const override { return is_cancelled.load(std::memory_order_relaxed); }
  void* AllocateReply(std::size_t size) override {
    reply.data.reset(new char[kMessagePrefix + size]);
    reply.size = kMessagePrefix + size;
    return reply.data.get() + kMessagePrefix;
  }
  void Finish(RpcStatus finished) override {
    status = std::move(finished);
    if (loop->InThread()) {
      Finished();
    } else {
      loop->Post([this] { Finished(); });
    }
  }

  // On the loop's thread.
  void Finished() {
    context->calls.fetch_sub(1, std::memory_order_relaxed);
    if (connection != nullptr) {
      connection->OnFinished(this);
    } else {
      delete this;
    }
  }
  bool streaming() const { return method != nullptr && method->rpc.streaming; }

  Http2Connection* connection;  // null once the stream is gone
  IoLoop* const loop;
  ConnectionContext* const context;
  const std::int32_t stream;
  GrpcCall* previous = nullptr;
  GrpcCall* next = nullptr;

  // What the headers say.
  const ConnectionContext::Method* method = nullptr;
  std::string path;
  bool is_post = false;
  bool is_grpc = false;
  bool bad_encoding = false;
  MessageEncoding encoding = MessageEncoding::kIdentity;
  bool accepts_reply_encoding = false;
  std::int64_t deadline = INT64_MAX;
  std::size_t header_bytes = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // those that are the client's own

  // Messages of the client.
  MessageAssembler assembler;
  std::vector<Bytes> messages;  // complete, not yet with the method
  bool remote_closed = false;
  bool ready = false;        // in the connection's list of calls to run
  bool with_method = false;  // given to the method and not finished
  Bytes request_bytes;
  std::vector<Slice> request_slices;
  std::atomic<bool> is_cancelled{false};
  std::optional<IoLoop::Timers::iterator> deadline_timer;

  // The method's answer.
  Bytes reply;
  RpcStatus status;

  // Bytes on their way to the client.
  std::vector<Bytes> outgoing;
  std::size_t outgoing_next = 0;
  std::size_t outgoing_offset = 0;
  bool headers_sent = false;
  bool deferred = false;  // nghttp2 waits to be told of more bytes
  bool ending = false;    // nothing is added to outgoing any more
  int end_code = 0;
  std::string end_message;

  // Of a health watch.
  bool watching = false;
  std::string watched_service;
  Health::Status told = Health::kServiceUnknown;
};

namespace {

Http2Connection* ConnectionOf(void* user_data) { return static_cast<Http2Connection*>(user_data); }

ssize_t ReadReplyCallback(nghttp2_session*, std::int32_t, std::uint8_t*, std::size_t length,
                          std::uint32_t* flags, nghttp2_data_source* source, void* user_data) {
  return ConnectionOf(user_data)->ReadReply(static_cast<GrpcCall*>(source->ptr), length, flags);
}

}  // namespace

nghttp2_session_callbacks* NewSessionCallbacks() {
  nghttp2_session_callbacks* callbacks = nullptr;
  if (nghttp2_session_callbacks_new(&callbacks) != 0) return nullptr;
  nghttp2_session_callbacks_set_on_begin_headers_callback(
      callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
        return ConnectionOf(user_data)->OnBeginHeaders(frame);
      });
  nghttp2_session_callbacks_set_on_header_callback(
      callbacks,
      [](nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
         const std::uint8_t* value, std::size_t value_size, std::uint8_t, void* user_data) {
        return ConnectionOf(user_data)->OnHeader(frame, {reinterpret_cast<const char*>(name), name_size},
                                                 {reinterpret_cast<const char*>(value), value_size});
      });
  nghttp2_session_callbacks_set_on_frame_recv_callback(
      callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user_data) {
        return ConnectionOf(user_data)->OnFrame(frame);
      });
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
      callbacks, [](nghttp2_session*, std::uint8_t, std::int32_t stream, const std::uint8_t* data,
                    std::size_t size, void* user_data) {
        return ConnectionOf(user_data)->OnData(stream, {reinterpret_cast<const char*>(data), size});
      });
  nghttp2_session_callbacks_set_on_stream_close_callback(
      callbacks, [](nghttp2_session*, std::int32_t stream, std::uint32_t, void* user_data) {
        return ConnectionOf(user_data)->OnStreamClosed(stream);
      });
  nghttp2_session_callbacks_set_send_data_callback(
      callbacks, [](nghttp2_session*, nghttp2_frame*, const std::uint8_t* head, std::size_t length,
                    nghttp2_data_source* source, void* user_data) {
        return ConnectionOf(user_data)->SendReply(static_cast<GrpcCall*>(source->ptr), head, length);
      });
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, [](nghttp2_session* session,
                                                                     const nghttp2_frame* frame, void*) {
    // An answer before the end of the request: the client may stop sending it.
    if (frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
      auto* call = static_cast<GrpcCall*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
      if (call != nullptr && !call->remote_closed) {
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
      }
    }
    return 0;
  });
  nghttp2_session_callbacks_set_data_source_read_length_callback(
      callbacks,
      [](nghttp2_session*, std::uint8_t, std::int32_t, std::int32_t connection_window,
         std::int32_t stream_window, std::uint32_t max_frame, void*) -> ssize_t {
        return std::min<std::int64_t>({connection_window, stream_window, max_frame, 64 << 10});
      });
  return callbacks;
}

nghttp2_option* NewSessionOptions() {
  nghttp2_option* options = nullptr;
  if (nghttp2_option_new(&options) != 0) return nullptr;
  nghttp2_option_set_no_closed_streams(options, 1);
  return options;
}

Http2Connection::Http2Connection(IoLoop* loop, ConnectionContext* context, int fd,
                                 std::unique_ptr<TlsSession> tls,
                                 std::function<void(Http2Connection*)> closed)
    : loop_(loop),
      context_(context),
      fd_(fd),
      tls_(std::move(tls)),
      closed_(std::move(closed)),
      created_(IoLoop::Now()),
      last_read_(created_),
      idle_since_(created_) {}

Http2Connection::~Http2Connection() {
  loop_->Unwatch(fd_, this);
  // Marked as not ready, the calls are deleted by Detach() unless a method has them.
  for (GrpcCall* call : ready_) {
    call->ready = false;
    if (call->connection == nullptr) delete call;
  }
  while (calls_ != nullptr) Detach(calls_);
  if (session_ != nullptr) nghttp2_session_del(session_);
  close(fd_);
  closed_(this);
}

bool Http2Connection::Start() {
  const Http2Settings& settings = context_->settings;
  constexpr std::uint32_t kWindow = 1 << 20;
  constexpr std::int32_t kConnectionWindow = 16 << 20;
  const nghttp2_settings_entry entries[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, settings.max_concurrent_streams},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow},
      {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 64 << 10},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, settings.max_header_bytes},
      // Streams are served in the order in which they are ready.
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  };
  const bool ok =
      nghttp2_session_server_new2(&session_, context_->callbacks, this, context_->options) == 0 &&
      nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, entries, sizeof(entries) / sizeof(entries[0])) ==
          0 &&
      nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow) == 0 &&
      loop_->Watch(fd_, EPOLLIN, this) && Flush();
  if (!ok) delete this;
  return ok;
}

void Http2Connection::OnSocket(std::uint32_t events) {
  bool alive = true;
  if ((events & EPOLLOUT) != 0) alive = Flush();
  if (alive && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
    alive = Receive();
    if (alive) RunReady();
    // What an error leaves to say, a GOAWAY, is said even then.
    Flush();
  }
  if (!alive) over_ = true;
  CloseIfOver();
}

void Http2Connection::Drain() {
  if (draining_) return;
  draining_ = true;
  drained_at_ = IoLoop::Now();
  for (GrpcCall* call = calls_; call != nullptr; call = call->next) {
    const bool idle_stream = call->streaming() && !call->with_method && !call->ready;
    if ((call->watching || idle_stream) && !call->ending)
      SendError(call, kUnavailable, "The server is shutting down");
  }
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_NO_ERROR, nullptr, 0);
  if (!Flush()) over_ = true;
  CloseIfOver();
}

void Http2Connection::Close() { delete this; }

void Http2Connection::OnTick(IoLoop::TimePoint now) {
  const Http2Settings& settings = context_->settings;
  bool close = false;
  if (!handshaken_) {
    close = now - created_ > settings.handshake_timeout;
  } else if (draining_) {
    close = now - drained_at_ > settings.max_age_grace;
  } else if (now - created_ > settings.max_age ||
             (call_count_ == 0 && now - idle_since_ > settings.max_idle)) {
    return Drain();
  }
  if (!close && now - last_read_ > settings.keepalive_time) {
    if (pinged_ <= last_read_) {
      pinged_ = now;
      nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
      close = !Flush();
    } else {
      close = now - pinged_ > settings.keepalive_timeout;
    }
  }
  if (close) over_ = true;
  CloseIfOver();
}

void Http2Connection::OnHealthChanged() {
  for (GrpcCall* call = calls_; call != nullptr; call = call->next) {
    if (!call->watching || call->ending) continue;
    const Health::Status status = context_->health.Get(call->watched_service);
    if (status == call->told) continue;
    call->told = status;
    const std::string_view response = Health::Response(status);
    std::memcpy(call->AllocateReply(response.size()), response.data(), response.size());
    PushReply(call, std::move(call->reply));
  }
  if (!Flush()) over_ = true;
  CloseIfOver();
}

GrpcCall* Http2Connection::CallOf(std::int32_t stream) const {
  return static_cast<GrpcCall*>(nghttp2_session_get_stream_user_data(session_, stream));
}

int Http2Connection::OnBeginHeaders(const nghttp2_frame* frame) {
  if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  auto* call = new GrpcCall(this, frame->hd.stream_id);
  call->next = calls_;
  if (calls_ != nullptr) calls_->previous = call;
  calls_ = call;
  ++call_count_;
  nghttp2_session_set_stream_user_data(session_, frame->hd.stream_id, call);
  return 0;
}

int Http2Connection::OnHeader(const nghttp2_frame* frame, std::string_view name, std::string_view value) {
  GrpcCall* call = CallOf(frame->hd.stream_id);
  if (call == nullptr) return 0;
  call->header_bytes += name.size() + value.size() + 32;
  if (call->header_bytes > context_->settings.max_header_bytes) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  // Trailers of a client mean nothing in gRPC.
  if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  if (name[0] == ':') {
    if (name == ":path") {
      auto found = context_->methods.find(value);
      if (found != context_->methods.end()) {
        call->method = &found->second;
      } else {
        call->path = value;
      }
    } else if (name == ":method") {
      call->is_post = value == "POST";
    }
  } else if (name == "content-type") {
    call->is_grpc = StartsWith(value, "application/grpc");
  } else if (name == "grpc-timeout") {
    if (auto timeout = ParseTimeout(value)) call->deadline = UnixMicros() + *timeout;
  } else if (name == "grpc-encoding") {
    if (auto encoding = EncodingOf(value)) {
      call->encoding = *encoding;
    } else {
      call->bad_encoding = true;
    }
  } else if (name == "grpc-accept-encoding") {
    if (context_->settings.reply_encoding) {
      call->accepts_reply_encoding =
          value.find(EncodingName(*context_->settings.reply_encoding)) != std::string_view::npos;
    }
  } else if (name != "te" && name != "user-agent") {
    call->headers.emplace_back(name, value);
  }
  return 0;
}

int Http2Connection::OnFrame(const nghttp2_frame* frame) {
  if (frame->hd.type == NGHTTP2_SETTINGS) {
    handshaken_ = true;
    return 0;
  }
  if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
  GrpcCall* call = CallOf(frame->hd.stream_id);
  if (call == nullptr) return 0;
  const bool last = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  call->remote_closed |= last;
  if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) Accept(call);
  if (!last || call->ending) return 0;
  if (call->assembler.partial()) {
    Refuse(call, kInternal, "The request ended within a message");
  } else if (call->method->health_watch) {
    StartWatch(call);
  } else if (!call->streaming() && call->messages.size() != 1) {
    Refuse(call, kInternal,
           "A unary call has one request message, this one has " + std::to_string(call->messages.size()));
  } else if (!call->messages.empty()) {
    if (!call->ready && !call->with_method) {
      call->ready = true;
      ready_.push_back(call);
    }
  } else if (!call->with_method && !call->ready) {
    call->ending = true;
    SendOn(call);
  }
  return 0;
}

void Http2Connection::Accept(GrpcCall* call) {
  if (!call->is_post) {
    RespondHttpError(call, "405");
  } else if (!call->is_grpc) {
    RespondHttpError(call, "415");
  } else if (call->method == nullptr) {
    Refuse(call, kUnimplemented, "There is no method " + call->path);
  } else if (call->bad_encoding) {
    Refuse(call, kUnimplemented, "The encoding of the request's messages is not known here");
  }
}

void Http2Connection::Refuse(GrpcCall* call, int code, std::string message) {
  SendError(call, code, message);
}

void Http2Connection::RespondHttpError(GrpcCall* call, const char* status) {
  call->ending = true;
  call->headers_sent = true;
  const nghttp2_nv headers[] = {StaticHeader(":status", status)};
  nghttp2_submit_response(session_, call->stream, headers, 1, nullptr);
}

int Http2Connection::OnData(std::int32_t stream, std::string_view data) {
  GrpcCall* call = CallOf(stream);
  while (call != nullptr && !call->ending && !data.empty()) {
    switch (call->assembler.Add(&data)) {
      case MessageAssembler::Result::kIncomplete:
        break;
      case MessageAssembler::Result::kTooLarge:
        Refuse(call, kResourceExhausted,
               "The request message is larger than " + std::to_string(context_->settings.max_request_bytes) +
                   " bytes");
        break;
      case MessageAssembler::Result::kMessage: {
        bool compressed = false;
        Bytes message = call->assembler.TakeMessage(&compressed);
        if (compressed) {
          if (call->encoding == MessageEncoding::kIdentity) {
            Refuse(call, kInternal, "A message is compressed, but the request names no encoding");
            break;
          }
          bool too_large = false;
          auto plain = Decompress(call->encoding, {message.data.get(), message.size},
                                  context_->settings.max_request_bytes, &too_large);
          if (!plain) {
            if (too_large) {
              Refuse(call, kResourceExhausted,
                     "The request message is larger than " +
                         std::to_string(context_->settings.max_request_bytes) + " bytes when decompressed");
            } else {
              Refuse(call, kInternal, "Could not decompress the request message");
            }
            break;
          }
          message = std::move(*plain);
        }
        call->messages.push_back(std::move(message));
        if (call->streaming() && !call->ready && !call->with_method) {
          call->ready = true;
          ready_.push_back(call);
        }
        break;
      }
    }
  }
  return 0;
}

int Http2Connection::OnStreamClosed(std::int32_t stream) {
  if (GrpcCall* call = CallOf(stream)) {
    nghttp2_session_set_stream_user_data(session_, stream, nullptr);
    Detach(call);
  }
  return 0;
}

void Http2Connection::Detach(GrpcCall* call) {
  if (call->previous != nullptr) {
    call->previous->next = call->next;
  } else {
    calls_ = call->next;
  }
  if (call->next != nullptr) call->next->previous = call->previous;
  if (--call_count_ == 0) idle_since_ = IoLoop::Now();
  if (call->deadline_timer) {
    loop_->RemoveTimer(*call->deadline_timer);
    call->deadline_timer.reset();
  }
  call->connection = nullptr;
  if (call->with_method || call->ready) {
    call->is_cancelled.store(true, std::memory_order_relaxed);
  } else {
    delete call;
  }
}

void Http2Connection::RunReady() {
  if (running_ready_) return;
  running_ready_ = true;
  IoLoop::TimePoint now = last_flush_ = ready_.size() > 1 ? IoLoop::Now() : 0;
  for (std::size_t i = 0; i < ready_.size(); ++i) {
    GrpcCall* call = ready_[i];
    call->ready = false;
    bool ran_here = false;
    if (call->connection == nullptr) {
      delete call;
    } else if (!call->ending) {
      ran_here = Dispatch(call, i + 1 < ready_.size());
    }
    if (i + 1 < ready_.size()) {
      const IoLoop::TimePoint before = now;
      now = IoLoop::Now();
      if (ran_here && before != 0) method_time_ += (now - before - method_time_) / 8;
      if (now - last_flush_ < kFlushAfter) continue;
      last_flush_ = now;
      if (!Flush()) {
        over_ = true;
        // The destructor sees to the rest.
        ready_.erase(ready_.begin(), ready_.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        running_ready_ = false;
        return;
      }
    }
  }
  ready_.clear();
  running_ready_ = false;
}

bool Http2Connection::Dispatch(GrpcCall* call, bool more_waiting) {
  const std::size_t calls = context_->calls.fetch_add(1, std::memory_order_relaxed);
  if (context_->settings.max_calls != 0 && calls >= context_->settings.max_calls) {
    context_->calls.fetch_sub(1, std::memory_order_relaxed);
    Refuse(call, kResourceExhausted,
           "The server already has " + std::to_string(context_->settings.max_calls) + " calls in flight");
    return false;
  }
  call->request_bytes = std::move(call->messages.front());
  call->messages.erase(call->messages.begin());
  call->request_slices.assign(1, Slice{call->request_bytes.data.get(), call->request_bytes.size});
  call->with_method = true;
  IoLoop* elsewhere = nullptr;
  if (more_waiting && method_time_ > kWorthSharing) {
    for (IoLoop* other : context_->loops) {
      if (other != loop_ && other->ClaimIdle()) {
        elsewhere = other;
        break;
      }
    }
  }
  if (elsewhere != nullptr) {
    elsewhere->Post([call] { call->method->rpc.handle(call); });
  } else {
    call->method->rpc.handle(call);
  }
  if (call->with_method && call->deadline != INT64_MAX) {
    call->deadline_timer =
        loop_->AddTimer(IoLoop::Now() + std::max<std::int64_t>(call->deadline - UnixMicros(), 0),
                        [this, call] { OnDeadline(call); });
  }
  return elsewhere == nullptr;
}

void Http2Connection::OnDeadline(GrpcCall* call) {
  call->deadline_timer.reset();
  if (call->ending) return;
  call->is_cancelled.store(true, std::memory_order_relaxed);
  SendError(call, kDeadlineExceeded, "The deadline passed while the call was run");
  if (!Flush()) over_ = true;
  CloseIfOver();
}

void Http2Connection::OnFinished(GrpcCall* call) {
  call->with_method = false;
  call->request_bytes = Bytes();
  if (call->deadline_timer) {
    loop_->RemoveTimer(*call->deadline_timer);
    call->deadline_timer.reset();
  }
  if (call->ending) return;  // the deadline was faster
  if (call->status.code != 0) {
    SendError(call, call->status.code, call->status.message);
  } else {
    if (call->reply.data == nullptr) call->AllocateReply(0);
    if (!call->streaming()) {
      call->ending = true;
    } else if (!call->messages.empty()) {
      call->ready = true;
      ready_.push_back(call);
    } else if (call->remote_closed) {
      call->ending = true;
    }
    PushReply(call, std::move(call->reply));
  }
  if (running_ready_) return;
  RunReady();
  if (!Flush()) over_ = true;
  CloseIfOver();
}

void Http2Connection::PushReply(GrpcCall* call, Bytes message) {
  const std::size_t size = message.size - kMessagePrefix;
  if (size > context_->settings.max_reply_bytes) {
    return SendError(call, kResourceExhausted,
                     "The reply has " + std::to_string(size) + " bytes, more than the " +
                         std::to_string(context_->settings.max_reply_bytes) + " that this server may send");
  }
  std::optional<Bytes> packed;
  if (call->accepts_reply_encoding) {
    packed =
        CompressWithPrefix(*context_->settings.reply_encoding, {message.data.get() + kMessagePrefix, size});
  }
  if (packed) {
    message = std::move(*packed);
  } else {
    WriteMessagePrefix(message.data.get(), false, size);
  }
  call->outgoing.push_back(std::move(message));
  SendOn(call);
}

void Http2Connection::SendOn(GrpcCall* call) {
  if (!call->headers_sent) {
    SendHeaders(call);
  } else if (call->deferred) {
    call->deferred = false;
    nghttp2_session_resume_data(session_, call->stream);
  }
}

void Http2Connection::SendHeaders(GrpcCall* call) {
  call->headers_sent = true;
  nghttp2_nv headers[4] = {StaticHeader(":status", "200"), StaticHeader("content-type", "application/grpc")};
  std::size_t count = 2;
  if (call->accepts_reply_encoding) {
    headers[count++] = StaticHeader("grpc-encoding", EncodingName(*context_->settings.reply_encoding));
  }
  if (call->encoding != MessageEncoding::kIdentity) {
    headers[count++] = StaticHeader("grpc-accept-encoding", "identity, deflate, gzip");
  }
  nghttp2_data_provider provider;
  provider.source.ptr = call;
  provider.read_callback = ReadReplyCallback;
  nghttp2_submit_response(session_, call->stream, headers, count, &provider);
}

void Http2Connection::SendError(GrpcCall* call, int code, const std::string& message) {
  call->ending = true;
  call->end_code = code;
  call->end_message = PercentEncode(message);
  // The rest of what was sent goes first.
  if (call->headers_sent) return SendOn(call);
  call->headers_sent = true;
  const std::string number = std::to_string(code);
  nghttp2_nv headers[5] = {StaticHeader(":status", "200"), StaticHeader("content-type", "application/grpc"),
                           Header("grpc-status", number, 0), Header("grpc-message", call->end_message, 0)};
  std::size_t count = 4;
  if (call->bad_encoding) headers[count++] = StaticHeader("grpc-accept-encoding", "identity, deflate, gzip");
  nghttp2_submit_response(session_, call->stream, headers, count, nullptr);
}

ssize_t Http2Connection::ReadReply(GrpcCall* call, std::size_t length, std::uint32_t* flags) {
  std::size_t given = 0;
  if (call->outgoing_next < call->outgoing.size()) {
    const std::size_t left = call->outgoing[call->outgoing_next].size - call->outgoing_offset;
    given = std::min(length, left);
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (given < left || call->outgoing_next + 1 < call->outgoing.size()) return static_cast<ssize_t>(given);
  }
  if (call->ending) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    if (call->end_code == 0) {
      const nghttp2_nv trailers[] = {StaticHeader("grpc-status", "0")};
      nghttp2_submit_trailer(session_, call->stream, trailers, 1);
    } else {
      const std::string number = std::to_string(call->end_code);
      const nghttp2_nv trailers[] = {Header("grpc-status", number, 0),
                                     Header("grpc-message", call->end_message, 0)};
      nghttp2_submit_trailer(session_, call->stream, trailers, 2);
    }
  } else if (given == 0) {
    call->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  return static_cast<ssize_t>(given);
}

int Http2Connection::SendReply(GrpcCall* call, const unsigned char* frame_head, std::size_t length) {
  if (out_.size() - out_begin_ >= kMaxOut) return NGHTTP2_ERR_WOULDBLOCK;
  constexpr std::size_t kFrameHead = 9;
  out_.append(reinterpret_cast<const char*>(frame_head), kFrameHead);
  Bytes& bytes = call->outgoing[call->outgoing_next];
  out_.append(bytes.data.get() + call->outgoing_offset, length);
  call->outgoing_offset += length;
  if (call->outgoing_offset == bytes.size) {
    bytes = Bytes();
    ++call->outgoing_next;
    call->outgoing_offset = 0;
    if (call->outgoing_next == call->outgoing.size()) {
      call->outgoing.clear();
      call->outgoing_next = 0;
    }
  }
  return 0;
}

void Http2Connection::StartWatch(GrpcCall* call) {
  std::optional<std::string> service;
  if (call->messages.size() == 1) {
    service = Health::ParseRequest({Slice{call->messages[0].data.get(), call->messages[0].size}});
  }
  if (!service) return Refuse(call, kInvalidArgument, "The request is not a HealthCheckRequest");
  call->messages.clear();
  call->watching = true;
  call->watched_service = *std::move(service);
  call->told = context_->health.Get(call->watched_service);
  const std::string_view response = Health::Response(call->told);
  std::memcpy(call->AllocateReply(response.size()), response.data(), response.size());
  PushReply(call, std::move(call->reply));
}

bool Http2Connection::Receive() {
  // A connection that always has more to read lets others have their turn.
  for (int turn = 0; turn < 4; ++turn) {
    const ssize_t got = recv(fd_, loop_->read_buffer(), IoLoop::kReadBuffer, 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    last_read_ = context_->settings.keepalive_time == INT64_MAX ? 0 : IoLoop::Now();
    if (tls_ == nullptr) {
      if (!Consume({loop_->read_buffer(), static_cast<std::size_t>(got)})) return false;
    } else {
      if (!tls_->Feed({loop_->read_buffer(), static_cast<std::size_t>(got)})) return false;
      int plain;
      while ((plain = tls_->Read(loop_->read_buffer(), IoLoop::kReadBuffer)) > 0) {
        if (!Consume({loop_->read_buffer(), static_cast<std::size_t>(plain)})) return false;
      }
      if (plain < 0) return false;
    }
    if (got < IoLoop::kReadBuffer) return true;
  }
  return true;
}

bool Http2Connection::Consume(std::string_view data) {
  return nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(data.data()),
                                  data.size()) >= 0;
}

bool Http2Connection::Flush() {
  if (wants_write_ && !WriteOut()) return false;
  // Frames are made only as fast as the client takes them.
  while (!wants_write_) {
    while (out_.size() - out_begin_ < kMaxOut) {
      const std::uint8_t* data = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &data);
      if (size < 0) return false;
      if (size == 0) break;
      out_.append(reinterpret_cast<const char*>(data), size);
    }
    if (out_.empty() && tls_ == nullptr) break;
    const std::size_t made = out_.size();
    if (!WriteOut()) return false;
    if (made < kMaxOut) break;
  }
  return true;
}

bool Http2Connection::WriteOut() {
  std::string* out = &out_;
  std::size_t* begin = &out_begin_;
  if (tls_ != nullptr) {
    // Until the handshake is done, the frames wait here and the handshake's own bytes go.
    if (tls_->handshake_done() && !out_.empty()) {
      if (!tls_->Write(out_)) return false;
      out_.clear();
    }
    tls_->TakeOutput(&tls_out_);
    out = &tls_out_;
    begin = &tls_begin_;
  }
  bool blocked = false;
  while (*begin < out->size()) {
    const ssize_t sent = send(fd_, out->data() + *begin, out->size() - *begin, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return false;
      blocked = true;
      break;
    }
    *begin += sent;
  }
  if (!blocked) {
    out->clear();
    *begin = 0;
    // A large reply's memory is not kept for a connection's life.
    if (out->capacity() > 2 * kMaxOut) out->shrink_to_fit();
  }
  if (blocked != wants_write_) {
    wants_write_ = blocked;
    loop_->Rewatch(fd_, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, this);
  }
  return true;
}

bool Http2Connection::CloseIfOver() {
  if (running_ready_) return false;
  const bool done = nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0 &&
                    out_.empty() && tls_out_.empty();
  if (!over_ && !done) return false;
  if (done) shutdown(fd_, SHUT_WR);
  delete this;
  return true;
}

}  // namespace tfipu::serving
