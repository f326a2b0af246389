// Brings frames to the socket as fast as the client takes them.
#ifndef SERVING_NET_HTTP2_WRITE_PUMP_H_
#define SERVING_NET_HTTP2_WRITE_PUMP_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "serving/net/memory_budget.h"
#include "serving/net/socket.h"

namespace tfipu::serving::net::http2 {

class WritePump;

// Who makes frames.
class FrameSource {
 public:
  // Appends frames until the pump is full or there are no more. False when the connection is broken.
  virtual bool Fill(WritePump* pump) = 0;

 protected:
  ~FrameSource() = default;
};

// Frames are made only when the ones before have gone, so that answers wait in the streams, where each is
// counted and can be given up; what waits here is bounded, and counted while the client does not take it. For
// one loop's thread. Append() may throw std::bad_alloc, and so may Flush().
class WritePump {
 public:
  // Both outlive it. `account` may be null.
  WritePump(Socket* socket, MemoryAccount* account) : socket_(socket), account_(account) {}
  ~WritePump() { Count(0); }
  WritePump(const WritePump&) = delete;
  WritePump& operator=(const WritePump&) = delete;

  enum class Result {
    kDone,     // everything there was is sent
    kBlocked,  // the client takes no more now; the next event tells when it does
    kTurn,     // there is more, but others should have their turn
    kBroken,
  };
  // Asks for frames and sends them.
  Result Flush(FrameSource* source);

  bool full() const { return out_.size() >= kFull; }
  bool empty() const { return out_.empty() && !socket_->pending(); }
  void Append(std::string_view bytes) { out_.append(bytes); }
  // Bytes that ever went to the socket.
  std::size_t sent() const { return sent_; }

  static constexpr std::size_t kFull = 512 << 10;

 private:
  // Sends what there is. False when the connection is broken.
  bool Send();
  void Count(std::size_t waiting);

  Socket* const socket_;
  MemoryAccount* const account_;
  std::string out_;  // from begin_ on
  std::size_t begin_ = 0;
  std::size_t counted_ = 0;
  std::size_t sent_ = 0;
};

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_WRITE_PUMP_H_
