#include "serving/net/http2/session.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

namespace tfipu::serving::net::http2 {
namespace {

constexpr std::uint32_t kStreamWindow = 1 << 20;
constexpr std::int32_t kConnectionWindow = 16 << 20;
constexpr std::size_t kFrameHead = 9;
// Empty DATA, PING, SETTINGS, PRIORITY and RST_STREAM in a second: far more than a client has reasons for.
constexpr int kMaxUselessFrames = 10000;
constexpr std::uint8_t kEndPing[8] = {'l', 'a', 's', 't', ' ', 'o', 'n', 'e'};

nghttp2_nv Header(std::string_view name, std::string_view value, std::uint8_t flags) {
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), flags};
}
// For text that lives as long as the program.
nghttp2_nv StaticHeader(std::string_view name, std::string_view value) {
  return Header(name, value, NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE);
}

constexpr std::string_view kEncodings = "identity, deflate, gzip";

}  // namespace

// nghttp2 is C: no exception may pass it.
struct SessionCallbacks {
  template <typename Function>
  static int Guarded(void* session, Function function) {
    try {
      return function(static_cast<Session*>(session));
    } catch (const std::exception&) {
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
  }

  static nghttp2_session_callbacks* New() {
    nghttp2_session_callbacks* callbacks = nullptr;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) return nullptr;
    nghttp2_session_callbacks_set_on_begin_headers_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* session) {
          return Guarded(session, [&](Session* self) { return self->OnBeginHeaders(frame); });
        });
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks,
        [](nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
           const std::uint8_t* value, std::size_t value_size, std::uint8_t, void* session) {
          return Guarded(session, [&](Session* self) {
            return self->OnHeader(frame, {reinterpret_cast<const char*>(name), name_size},
                                  {reinterpret_cast<const char*>(value), value_size});
          });
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* session) {
          return Guarded(session, [&](Session* self) { return self->OnFrame(frame); });
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks, [](nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                      std::size_t size, void* session) {
          return Guarded(session, [&](Session* self) {
            return self->OnData(id, {reinterpret_cast<const char*>(data), size});
          });
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, std::int32_t id, std::uint32_t, void* session) {
          return Guarded(session, [&](Session* self) { return self->OnClosed(id); });
        });
    nghttp2_session_callbacks_set_send_data_callback(
        callbacks, [](nghttp2_session*, nghttp2_frame*, const std::uint8_t* head, std::size_t length,
                      nghttp2_data_source* source, void* session) {
          return Guarded(session, [&](Session* self) {
            return self->SendReply(static_cast<Stream*>(source->ptr), head, length);
          });
        });
    nghttp2_session_callbacks_set_on_frame_send_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* session) {
          return Guarded(session, [&](Session* self) { return self->OnSent(frame); });
        });
    nghttp2_session_callbacks_set_data_source_read_length_callback(
        callbacks,
        [](nghttp2_session*, std::uint8_t, std::int32_t, std::int32_t connection_window,
           std::int32_t stream_window, std::uint32_t max_frame, void*) -> ssize_t {
          return std::min<std::int64_t>({connection_window, stream_window, max_frame, 64 << 10});
        });
    return callbacks;
  }

  static nghttp2_option* NewOptions() {
    nghttp2_option* options = nullptr;
    if (nghttp2_option_new(&options) != 0) return nullptr;
    nghttp2_option_set_no_closed_streams(options, 1);
    // Streams say what they have made use of.
    nghttp2_option_set_no_auto_window_update(options, 1);
    // A client with short deadlines cancels calls all the time; nghttp2 would allow it 33 in a second.
    nghttp2_option_set_stream_reset_rate_limit(options, kMaxUselessFrames, kMaxUselessFrames / 2);
    return options;
  }

  static ssize_t Read(nghttp2_session*, std::int32_t, std::uint8_t*, std::size_t length, std::uint32_t* flags,
                      nghttp2_data_source* source, void* session) {
    return static_cast<Session*>(session)->ReadReply(static_cast<Stream*>(source->ptr), length, flags);
  }
};

std::unique_ptr<Session> Session::Create(const Settings& settings, SessionHandler* handler) {
  std::unique_ptr<Session> session(new Session(settings, handler));
  if (!session->Start()) return nullptr;
  return session;
}

Session::~Session() {
  if (session_ != nullptr) nghttp2_session_del(session_);
}

bool Session::Start() {
  static nghttp2_session_callbacks* const callbacks = SessionCallbacks::New();
  static nghttp2_option* const options = SessionCallbacks::NewOptions();
  if (callbacks == nullptr || options == nullptr) return false;
  const nghttp2_settings_entry entries[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, settings_.max_concurrent_streams},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
      {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 64 << 10},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, settings_.max_header_bytes},
      // Streams are served in the order in which they are ready.
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  };
  return nghttp2_session_server_new2(&session_, callbacks, this, options) == 0 &&
         nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, entries,
                                 sizeof(entries) / sizeof(entries[0])) == 0 &&
         nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow) == 0;
}

bool Session::Receive(std::string_view data) {
  return nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(data.data()),
                                  data.size()) >= 0;
}

bool Session::Fill(WritePump* pump) {
  pump_ = pump;
  ssize_t size = 0;
  while (!pump->full()) {
    const std::uint8_t* data = nullptr;
    size = nghttp2_session_mem_send(session_, &data);
    if (size <= 0) break;
    pump->Append({reinterpret_cast<const char*>(data), static_cast<std::size_t>(size)});
  }
  pump_ = nullptr;
  return size >= 0;
}

bool Session::done() const {
  return nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
}

Stream* Session::StreamOf(std::int32_t id) const {
  return static_cast<Stream*>(nghttp2_session_get_stream_user_data(session_, id));
}

int Session::OnBeginHeaders(const nghttp2_frame* frame) {
  if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  Stream* const stream = handler_->OnStreamOpened(frame->hd.stream_id);
  if (stream == nullptr) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
    return 0;
  }
  nghttp2_session_set_stream_user_data(session_, frame->hd.stream_id, stream);
  return 0;
}

int Session::OnHeader(const nghttp2_frame* frame, std::string_view name, std::string_view value) {
  Stream* const stream = StreamOf(frame->hd.stream_id);
  // Trailers of a client mean nothing in gRPC.
  if (stream == nullptr || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  return stream->OnHeader(name, value) ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

bool Session::MayBeUseless() {
  if (++useless_frames_ <= kMaxUselessFrames) return true;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_ENHANCE_YOUR_CALM, nullptr, 0);
  return false;
}

int Session::OnFrame(const nghttp2_frame* frame) {
  const nghttp2_frame_hd& head = frame->hd;
  const bool ack = (head.flags & NGHTTP2_FLAG_ACK) != 0;
  switch (head.type) {
    case NGHTTP2_SETTINGS:
      if (!established_) handler_->OnEstablished();
      established_ = true;
      return ack || MayBeUseless() ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    case NGHTTP2_PING:
      if (!ack) return MayBeUseless() ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
      if (std::memcmp(frame->ping.opaque_data, kEndPing, sizeof(kEndPing)) != 0) return 0;
      // A client may answer a PING before it writes a call that it had begun when it read of the end.
      if (++end_pongs_ < 2) return nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kEndPing);
      handler_->OnEndSeen();
      return 0;
    case NGHTTP2_RST_STREAM:
    case NGHTTP2_PRIORITY:
      return MayBeUseless() ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
      break;
    default:
      return 0;
  }
  const bool last = (head.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (head.type == NGHTTP2_DATA && head.length == 0 && !last && !MayBeUseless())
    return NGHTTP2_ERR_CALLBACK_FAILURE;
  Stream* const stream = StreamOf(head.stream_id);
  if (stream == nullptr) return 0;
  if (head.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
    stream->OnHeadersEnd();
    handler_->OnStreamHeaders(stream);
  }
  if (last) stream->OnClientEnd();
  return 0;
}

int Session::OnData(std::int32_t id, std::string_view data) {
  // The connection's window is for all; a stream that does not get on has its own filled.
  nghttp2_session_consume_connection(session_, data.size());
  if (Stream* const stream = StreamOf(id)) stream->OnData(data);
  return 0;
}

int Session::OnClosed(std::int32_t id) {
  if (Stream* const stream = StreamOf(id)) {
    nghttp2_session_set_stream_user_data(session_, id, nullptr);
    handler_->OnStreamClosed(stream);
  }
  return 0;
}

int Session::OnSent(const nghttp2_frame* frame) {
  // An answer before the end of the request: the client may stop sending it.
  if (frame->hd.type != NGHTTP2_HEADERS || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return 0;
  Stream* const stream = StreamOf(frame->hd.stream_id);
  if (stream != nullptr && !stream->client_ended()) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
  }
  return 0;
}

void Session::SendHeaders(Stream* stream, bool body_follows) {
  std::string code;
  nghttp2_nv headers[5] = {StaticHeader(":status", "200"), StaticHeader("content-type", "application/grpc")};
  std::size_t count = 2;
  if (!body_follows) {
    code = std::to_string(stream->end_code());
    headers[count++] = Header("grpc-status", code, 0);
    headers[count++] = Header("grpc-message", stream->end_message(), 0);
    if (stream->bad_encoding()) headers[count++] = StaticHeader("grpc-accept-encoding", kEncodings);
    nghttp2_submit_response(session_, stream->id(), headers, count, nullptr);
    return;
  }
  if (stream->accepts_reply_encoding()) {
    headers[count++] = StaticHeader("grpc-encoding", EncodingName(*settings_.reply_encoding));
  }
  if (stream->encoding() != MessageEncoding::kIdentity) {
    headers[count++] = StaticHeader("grpc-accept-encoding", kEncodings);
  }
  nghttp2_data_provider provider;
  provider.source.ptr = stream;
  provider.read_callback = SessionCallbacks::Read;
  nghttp2_submit_response(session_, stream->id(), headers, count, &provider);
}

void Session::SendHttpError(Stream* stream, const char* status) {
  const nghttp2_nv headers[] = {StaticHeader(":status", status)};
  nghttp2_submit_response(session_, stream->id(), headers, 1, nullptr);
}

void Session::SendMore(Stream* stream) { nghttp2_session_resume_data(session_, stream->id()); }

void Session::Consumed(Stream* stream, std::size_t bytes) {
  nghttp2_session_consume_stream(session_, stream->id(), bytes);
}

ssize_t Session::ReadReply(Stream* stream, std::size_t length, std::uint32_t* flags) {
  bool end = false;
  const std::size_t given = stream->ReadReply(length, &end);
  if (end) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    SubmitStatus(stream);
  } else if (given == 0) {
    return NGHTTP2_ERR_DEFERRED;
  }
  if (given > 0) *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  return static_cast<ssize_t>(given);
}

void Session::SubmitStatus(Stream* stream) {
  if (stream->end_code() == 0) {
    const nghttp2_nv trailers[] = {StaticHeader("grpc-status", "0")};
    nghttp2_submit_trailer(session_, stream->id(), trailers, 1);
    return;
  }
  char code[12];
  std::snprintf(code, sizeof(code), "%d", stream->end_code());
  const nghttp2_nv trailers[] = {Header("grpc-status", code, 0),
                                 Header("grpc-message", stream->end_message(), 0)};
  nghttp2_submit_trailer(session_, stream->id(), trailers, 2);
}

int Session::SendReply(Stream* stream, const std::uint8_t* head, std::size_t length) {
  if (pump_ == nullptr || pump_->full()) return NGHTTP2_ERR_WOULDBLOCK;
  pump_->Append({reinterpret_cast<const char*>(head), kFrameHead});
  pump_->Append(stream->TakeReply(length));
  return 0;
}

void Session::Ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }

void Session::AnnounceEnd() {
  nghttp2_submit_shutdown_notice(session_);
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kEndPing);
}

void Session::End() {
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_NO_ERROR, nullptr, 0);
}

}  // namespace tfipu::serving::net::http2
