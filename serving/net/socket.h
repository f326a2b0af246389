// A connection's socket, with TLS or without. Plain C++.
#ifndef SERVING_NET_SOCKET_H_
#define SERVING_NET_SOCKET_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "serving/net/descriptor.h"
#include "serving/net/event_loop.h"
#include "serving/net/tls.h"

namespace tfipu::serving::net {

// Reads and writes without waiting. Registered once, edge-triggered: it remembers what the socket is ready
// for. A read that returns less than was asked for has emptied the socket, so nothing is read just to learn
// that nothing is there. For one loop's thread.
class Socket {
 public:
  // `tls` null: plain text.
  Socket(EventLoop* loop, Descriptor fd, std::unique_ptr<TlsSession> tls)
      : loop_(loop), fd_(std::move(fd)), tls_(std::move(tls)) {}
  // Close() comes first if it is watched.
  ~Socket() = default;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  bool Watch(SocketWatcher* watcher);
  // Takes note of the loop's events, 0 included.
  void OnEvents(std::uint32_t events);

  // Bytes, 0 at the end of the stream or when it is broken, -1 when there is nothing now.
  long Receive(char* data, std::size_t size);
  // Takes the parts as far as it can without waiting; `*sent` says how many bytes. False when the stream is
  // broken. With TLS a little of what was taken may wait, see pending().
  bool Send(const iovec* parts, int count, std::size_t* sent);
  // Sends what waits. False when the stream is broken.
  bool Flush();
  bool pending() const { return !waiting_.empty(); }

  // Whether reading may give something: false until the next event when it cannot.
  bool readable() const { return readable_; }
  bool writable() const { return writable_; }
  // The client sends no more.
  bool half_closed() const { return half_closed_; }
  bool plain() const { return tls_ == nullptr; }
  // With TLS, whether the handshake is done.
  bool established() const { return tls_ == nullptr || tls_->handshake_done(); }

  // Sends the end of the stream; reading goes on.
  void SendEnd();
  void Close(SocketWatcher* watcher);
  bool closed() const { return !fd_.ok(); }

 private:
  long ReceiveRaw(char* data, std::size_t size);
  bool SendRaw(const iovec* parts, int count, std::size_t* sent);

  EventLoop* const loop_;
  Descriptor fd_;
  const std::unique_ptr<TlsSession> tls_;
  bool readable_ = true;
  bool writable_ = true;
  bool half_closed_ = false;
  std::string waiting_;  // encrypted, from waiting_begin_ on
  std::size_t waiting_begin_ = 0;
};

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_SOCKET_H_
