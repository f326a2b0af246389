#include "serving/net/http2/write_pump.h"

namespace tfipu::serving::net::http2 {
namespace {

constexpr int kFillsInATurn = 4;

}  // namespace

WritePump::Result WritePump::Flush(FrameSource* source) {
  for (int i = 0; i < kFillsInATurn; ++i) {
    // What could not be sent comes first.
    if (!empty()) {
      if (!Send()) return Result::kBroken;
      if (!empty()) return Result::kBlocked;
    }
    if (!source->Fill(this)) {
      // What an error leaves to say is said even then.
      Send();
      return Result::kBroken;
    }
    const bool more = full();
    if (!Send()) return Result::kBroken;
    if (!empty()) return Result::kBlocked;
    if (!more) return Result::kDone;
  }
  return Result::kTurn;
}

bool WritePump::Send() {
  bool alive = true;
  while (alive && begin_ < out_.size()) {
    const iovec part = {out_.data() + begin_, out_.size() - begin_};
    std::size_t sent = 0;
    alive = socket_->Send(&part, 1, &sent);
    if (sent == 0) break;
    begin_ += sent;
    sent_ += sent;
  }
  if (alive) alive = socket_->Flush();
  if (begin_ == out_.size()) {
    out_.clear();
    begin_ = 0;
    // A large reply's memory is not kept for a connection's life.
    if (out_.capacity() > 64 << 10) out_.shrink_to_fit();
  }
  Count(out_.size());
  return alive;
}

void WritePump::Count(std::size_t waiting) {
  if (account_ == nullptr || waiting == counted_) return;
  account_->Give(counted_);
  account_->Must(waiting);
  counted_ = waiting;
}

}  // namespace tfipu::serving::net::http2
