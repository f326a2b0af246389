// The calls of one HTTP/2 connection.
#ifndef SERVING_NET_HTTP2_CALLS_H_
#define SERVING_NET_HTTP2_CALLS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "serving/net/event_loop.h"
#include "serving/net/http2/session.h"
#include "serving/net/http2/stream.h"
#include "serving/net/memory_budget.h"

namespace tfipu::serving::net::http2 {

// What the calls ask of their connection.
class CallsOwner {
 public:
  // There is something to send, and Receive() is not what brought it.
  virtual void OnOutput() = 0;
  // Sends what there is, while further calls wait to be run. False when that is not possible any more.
  virtual bool FlushNow() = 0;
  // As SessionHandler has them.
  virtual void OnEstablished() = 0;
  virtual void OnEndSeen() = 0;

 protected:
  ~CallsOwner() = default;
};

// Bytes of a client come in, calls are run, frames come out: all of HTTP/2 and gRPC but sockets and a
// connection's times. Calls that are complete are given to their methods one after the other by RunReady(),
// or to other loops' threads that are idle when several wait and take long. Calls that are still with their
// methods outlive it and go when these finish them. For one loop's thread.
class Calls final : public SessionHandler, public StreamHost {
 public:
  // Null when memory is short. `loop` null is for tests: then all is one thread, and there are no deadlines.
  static std::unique_ptr<Calls> Create(CallsOwner* owner, EventLoop* loop, CallContext* context,
                                       std::shared_ptr<MemoryAccount> account);
  ~Calls();
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;

  // False when the connection cannot go on.
  bool Receive(std::string_view data) { return session_->Receive(data); }
  // Runs what Receive() has made complete. False when the connection cannot go on.
  bool RunReady();
  bool has_ready() const { return !ready_.empty(); }
  // Streams whose answers have been taken go on. Whether there were any.
  bool OnAnswersLeft();
  // Nothing of what is unfinished can get on without the client.
  bool WaitForClient() const;
  // Looks after the deadlines of calls whose message has not come.
  void WatchDeadlines();

  // Ends streams that would not end by themselves: watches, and those between two messages.
  void EndStreams();
  // A watched message may have changed.
  void OnNotified();

  Session* session() { return session_.get(); }
  std::size_t count() const { return count_; }
  // When there last was a call.
  EventLoop::TimePoint idle_since() const { return idle_since_; }

  // SessionHandler
  Stream* OnStreamOpened(std::int32_t id) override;
  void OnStreamHeaders(Stream* stream) override;
  void OnStreamClosed(Stream* stream) override;
  void OnEstablished() override { owner_->OnEstablished(); }
  void OnEndSeen() override { owner_->OnEndSeen(); }
  // StreamHost
  void SendHeaders(Stream* stream, bool body_follows) override {
    session_->SendHeaders(stream, body_follows);
  }
  void SendHttpError(Stream* stream, const char* status) override { session_->SendHttpError(stream, status); }
  void SendMore(Stream* stream) override { session_->SendMore(stream); }
  void Consumed(Stream* stream, std::size_t bytes) override { session_->Consumed(stream, bytes); }
  void OnReady(Stream* stream) override { ready_.push_back(stream); }
  void OnAnswerTaken(Stream* stream) override { answers_left_.push_back(stream); }
  void OnStreamMail(Stream* stream) override;

 private:
  Calls(CallsOwner* owner, EventLoop* loop, CallContext* context, std::shared_ptr<MemoryAccount> account);
  // Gives the call's message to its method, on this thread or another loop's. Whether it was this.
  bool Dispatch(Stream* stream, bool more_waiting);
  // Lets an idle loop's thread run the call. False when there is none.
  bool RunElsewhere(Stream* stream);
  void SetDeadline(Stream* stream);
  void OnDeadline(Stream* stream);
  void Detach(Stream* stream);

  CallsOwner* const owner_;
  EventLoop* const loop_;
  CallContext* const context_;
  const std::shared_ptr<MemoryAccount> account_;
  std::unique_ptr<Session> session_;

  Stream* first_ = nullptr;
  std::size_t count_ = 0;
  EventLoop::TimePoint idle_since_;
  std::vector<Stream*> ready_;          // null: gone
  std::vector<Stream*> answers_left_;   // null: gone
  std::vector<Stream*> with_deadline_;  // new since WatchDeadlines(); null: gone
  bool running_ready_ = false;
  // How long methods have lately taken on this thread, in microseconds; measured while several calls wait.
  EventLoop::TimePoint method_time_ = 0;
};

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_CALLS_H_
