// One client's HTTP/2 connection.
#ifndef SERVING_NET_HTTP2_CONNECTION_H_
#define SERVING_NET_HTTP2_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "serving/net/event_loop.h"
#include "serving/net/http2/calls.h"
#include "serving/net/http2/write_pump.h"
#include "serving/net/memory_budget.h"
#include "serving/net/socket.h"

namespace tfipu::serving::net::http2 {

// A socket on its loop and the calls that come on it: when to read, to run, to write, and when the connection
// is to end. It ends in steps, so that no call is lost and no answer cut off: the client is told to begin no
// more calls (kAnnounced), is told which one was the last when it has seen that (kEnding), has all its
// answers, and is left to read them while what still comes is thrown away (kLingering).
//
// Belongs to one loop and lives on its thread, which deletes it when it is over. Exceptions end the
// connection.
class Connection final : public SocketWatcher, private CallsOwner {
 public:
  using Closed = std::function<void(Connection*)>;

  // `closed` is told when the connection is over; the loop deletes it soon after. Throws std::bad_alloc when
  // memory is short.
  Connection(EventLoop* loop, CallContext* context, MemoryBudget* budget, Descriptor fd,
             std::unique_ptr<TlsSession> tls, Closed closed);

  // Begins to serve. Without it, Close() is next.
  void Start();
  void OnSocket(std::uint32_t events) override;
  void OnFlush() override;
  // Ends the connection as above. `shutdown`: all of the server ends; then streams that would go on are
  // ended, and a client that takes nothing is not waited for.
  void Drain(bool shutdown);
  // Cancels all calls and closes.
  void Close();
  // Looks after timeouts. `now`: EventLoop::Now().
  void OnTick(EventLoop::TimePoint now);
  // A watched message may have changed.
  void OnNotified();

 private:
  enum class State { kOpen, kAnnounced, kEnding, kLingering, kClosed };

  // CallsOwner
  void OnOutput() override;
  bool FlushNow() override;
  void OnEstablished() override { established_ = true; }
  void OnEndSeen() override;

  // Calls it, and closes the connection when it throws or the connection is over.
  template <typename Function>
  void Guarded(Function function);
  bool Receive();
  // Reads and throws away. False at the end.
  bool Discard();
  // Writes what there is. False when the connection is broken.
  bool Flush();
  void EndIfDone();
  bool KeepsAlive(EventLoop::TimePoint now);

  EventLoop* const loop_;
  CallContext* const context_;
  const std::shared_ptr<MemoryAccount> account_;
  Socket socket_;
  WritePump pump_;
  std::unique_ptr<Calls> calls_;
  const Closed closed_;
  State state_ = State::kOpen;
  bool receiving_ = false;
  bool shutdown_ = false;

  const EventLoop::TimePoint created_;
  EventLoop::TimePoint last_read_;
  EventLoop::TimePoint pinged_ = 0;
  EventLoop::TimePoint state_since_;
  std::size_t sent_at_tick_ = 0;
  EventLoop::TimePoint sent_since_ = 0;  // when sent_at_tick_ was
  bool established_ = false;
};

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_CONNECTION_H_
