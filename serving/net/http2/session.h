// The frames of an HTTP/2 connection, by nghttp2.
#ifndef SERVING_NET_HTTP2_SESSION_H_
#define SERVING_NET_HTTP2_SESSION_H_

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "serving/net/http2/settings.h"
#include "serving/net/http2/stream.h"
#include "serving/net/http2/write_pump.h"

namespace tfipu::serving::net::http2 {

// Who is told of what came. Exceptions are taken for a broken connection.
class SessionHandler {
 public:
  // A client has begun a call; null when it cannot be taken.
  virtual Stream* OnStreamOpened(std::int32_t id) = 0;
  // The stream has its headers.
  virtual void OnStreamHeaders(Stream* stream) = 0;
  // The stream is gone, and forgotten here.
  virtual void OnStreamClosed(Stream* stream) = 0;
  // The client's first settings have come: it speaks HTTP/2.
  virtual void OnEstablished() = 0;
  // The client has seen the announcement of AnnounceEnd().
  virtual void OnEndSeen() = 0;

 protected:
  ~SessionHandler() = default;
};

// Translates between nghttp2's callbacks and streams: headers and data of the client go to its Stream, what
// Streams ask for becomes frames. It keeps no calls and knows no sockets. It sees to floods, as far as
// nghttp2 does not: frames that bring nothing are counted, and a client that sends too many is told to calm
// down. For one thread at a time.
class Session final : public FrameSource {
 public:
  // Null when memory is short. The handler outlives it.
  static std::unique_ptr<Session> Create(const Settings& settings, SessionHandler* handler);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Bytes of the client. False when the connection cannot go on; Fill() may have a GOAWAY to say why.
  bool Receive(std::string_view data);
  bool Fill(WritePump* pump) override;
  // Nothing more will come or go.
  bool done() const;

  // As StreamHost has them.
  void SendHeaders(Stream* stream, bool body_follows);
  void SendHttpError(Stream* stream, const char* status);
  void SendMore(Stream* stream);
  void Consumed(Stream* stream, std::size_t bytes);

  void Ping();
  // Tells the client to begin no more calls here, while those that are on their way are still taken.
  // OnEndSeen() comes after two PINGs there and back.
  void AnnounceEnd();
  // Takes no more calls, and tells which one was the last.
  void End();
  // A second has passed.
  void OnTick() { useless_frames_ = 0; }

 private:
  Session(const Settings& settings, SessionHandler* handler) : settings_(settings), handler_(handler) {}
  bool Start();
  Stream* StreamOf(std::int32_t id) const;
  int OnBeginHeaders(const nghttp2_frame* frame);
  int OnHeader(const nghttp2_frame* frame, std::string_view name, std::string_view value);
  int OnFrame(const nghttp2_frame* frame);
  int OnData(std::int32_t id, std::string_view data);
  int OnClosed(std::int32_t id);
  int OnSent(const nghttp2_frame* frame);
  ssize_t ReadReply(Stream* stream, std::size_t length, std::uint32_t* flags);
  int SendReply(Stream* stream, const std::uint8_t* head, std::size_t length);
  void SubmitStatus(Stream* stream);
  // Whether the client may send another frame that brings nothing.
  bool MayBeUseless();

  friend struct SessionCallbacks;

  const Settings& settings_;
  SessionHandler* const handler_;
  nghttp2_session* session_ = nullptr;
  WritePump* pump_ = nullptr;  // while it is filled
  bool established_ = false;
  int end_pongs_ = 0;
  int useless_frames_ = 0;  // of this second
};

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_SESSION_H_
