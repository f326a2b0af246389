// Both ends of an HTTP/2 connection without threads, for tests: Calls on one, nghttp2 as a client on the
// other.
#ifndef SERVING_NET_HTTP2_CALLS_PEER_H_
#define SERVING_NET_HTTP2_CALLS_PEER_H_

#include <fcntl.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "serving/net/http2/calls.h"

namespace tfipu::serving::net::http2 {

// Methods: /t/Echo answers with the request, /t/Hold keeps the call in held(), /t/Throw throws, /t/Stream
// echoes a stream, /t/Watch tells "state".
class ScriptedCalls final : private CallsOwner {
 public:
  explicit ScriptedCalls(std::size_t max_connection_bytes = 1 << 20)
      : account_(std::make_shared<MemoryAccount>(nullptr, max_connection_bytes)) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) std::abort();
    socket_ = std::make_unique<Socket>(nullptr, Descriptor(ends[0]), nullptr);
    client_ = Descriptor(ends[1]);
    pump_ = std::make_unique<WritePump>(socket_.get(), account_.get());
    context_.settings.max_request_bytes = 100000;
    const auto echo = [](RpcCall* call) {
      const Slice request = call->request()[0];
      if (void* reply = call->AllocateReply(request.size)) std::memcpy(reply, request.data, request.size);
      call->Finish({});
    };
    context_.methods["/t/Echo"].handle = echo;
    context_.methods["/t/Hold"].handle = [this](RpcCall* call) { held_.push_back(call); };
    context_.methods["/t/Throw"].handle = [](RpcCall*) { throw std::bad_alloc(); };
    context_.methods["/t/Stream"].handle = echo;
    context_.methods["/t/Stream"].streaming = true;
    context_.methods["/t/Watch"].watch = [](std::string_view, std::string* message) {
      *message = "state";
      return true;
    };
    calls_ = Calls::Create(this, nullptr, &context_, account_);
    if (calls_ == nullptr) std::abort();
  }
  ~ScriptedCalls() { End(); }

  // Closes the connection and lets go of all there is.
  void End() {
    calls_.reset();
    FinishHeld();
    pump_.reset();
  }

  // A round: bytes in, calls run, frames out. False when the connection cannot go on.
  bool Receive(std::string_view bytes) {
    const bool alive = calls_->Receive(bytes) && calls_->RunReady();
    return Flush() && alive;
  }
  bool Flush() {
    if (!FlushNow()) return false;
    for (int i = 0; i < 100 && (calls_->OnAnswersLeft() || calls_->has_ready()); ++i) {
      if (!calls_->RunReady() || !FlushNow()) return false;
    }
    return true;
  }
  // What the client can read now.
  std::string Sent() {
    std::string all;
    char data[65536];
    long got;
    while ((got = recv(client_.get(), data, sizeof(data), 0)) > 0)
      all.append(data, static_cast<std::size_t>(got));
    return all;
  }
  void FinishHeld() {
    for (RpcCall* call : std::exchange(held_, {})) call->Finish({});
  }

  Calls* calls() { return calls_.get(); }
  std::vector<RpcCall*>& held() { return held_; }
  MemoryAccount* account() { return account_.get(); }
  CallContext& context() { return context_; }
  bool end_seen() const { return end_seen_; }

 private:
  void OnOutput() override {
    if (calls_ != nullptr) Flush();
  }
  bool FlushNow() override { return pump_->Flush(calls_->session()) != WritePump::Result::kBroken; }
  void OnEstablished() override {}
  void OnEndSeen() override {
    end_seen_ = true;
    calls_->session()->End();
  }

  CallContext context_;
  std::shared_ptr<MemoryAccount> account_;
  std::unique_ptr<Socket> socket_;
  Descriptor client_;
  std::unique_ptr<WritePump> pump_;
  std::unique_ptr<Calls> calls_;
  std::vector<RpcCall*> held_;
  bool end_seen_ = false;
};

}  // namespace tfipu::serving::net::http2

#endif  // SERVING_NET_HTTP2_CALLS_PEER_H_
