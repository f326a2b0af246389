#include "serving/net/http2/calls.h"

#include <algorithm>
#include <chrono>
#include <exception>

namespace tfipu::serving::net::http2 {
namespace {

// Methods that take longer are worth the two hand-offs to another thread and back, when others wait behind
// them.
constexpr EventLoop::TimePoint kWorthSharing = 30;

void Remove(std::vector<Stream*>* streams, Stream* stream) {
  std::replace(streams->begin(), streams->end(), stream, static_cast<Stream*>(nullptr));
}

std::int64_t UnixMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// The contract of RpcMethod::handle.
void Run(Stream* stream) {
  try {
    stream->method()->handle(stream);
  } catch (const std::exception&) {
    stream->Finish({kResourceExhausted, "There is no memory to run the call; try again"});
  }
}

}  // namespace

Calls::Calls(CallsOwner* owner, EventLoop* loop, CallContext* context, std::shared_ptr<MemoryAccount> account)
    : owner_(owner),
      loop_(loop),
      context_(context),
      account_(std::move(account)),
      idle_since_(EventLoop::Now()) {}

std::unique_ptr<Calls> Calls::Create(CallsOwner* owner, EventLoop* loop, CallContext* context,
                                     std::shared_ptr<MemoryAccount> account) {
  std::unique_ptr<Calls> calls(new Calls(owner, loop, context, std::move(account)));
  calls->session_ = Session::Create(context->settings, calls.get());
  if (calls->session_ == nullptr) return nullptr;
  return calls;
}

Calls::~Calls() {
  while (first_ != nullptr) Detach(first_);
}

Stream* Calls::OnStreamOpened(std::int32_t id) {
  auto* const stream = new Stream(this, loop_, context_, account_, id);
  stream->next = first_;
  if (first_ != nullptr) first_->previous = stream;
  first_ = stream;
  ++count_;
  return stream;
}

void Calls::OnStreamHeaders(Stream* stream) {
  if (stream->has_deadline() && !stream->ending()) with_deadline_.push_back(stream);
}

void Calls::OnStreamClosed(Stream* stream) { Detach(stream); }

void Calls::Detach(Stream* stream) {
  (stream->previous != nullptr ? stream->previous->next : first_) = stream->next;
  if (stream->next != nullptr) stream->next->previous = stream->previous;
  if (--count_ == 0) idle_since_ = EventLoop::Now();
  if (stream->deadline_timer) loop_->RemoveTimer(*stream->deadline_timer);
  stream->deadline_timer.reset();
  Remove(&ready_, stream);
  Remove(&answers_left_, stream);
  Remove(&with_deadline_, stream);
  if (stream->Detach()) delete stream;
}

bool Calls::RunReady() {
  if (running_ready_) return true;
  running_ready_ = true;
  EventLoop::TimePoint now = ready_.size() > 1 ? EventLoop::Now() : 0;
  EventLoop::TimePoint last_flush = now;
  bool alive = true;
  for (std::size_t i = 0; i < ready_.size() && alive; ++i) {
    if (ready_[i] == nullptr) continue;
    const bool more = i + 1 < ready_.size();
    const bool ran_here = !ready_[i]->ending() && Dispatch(ready_[i], more);
    ready_[i] = nullptr;
    if (!more) continue;
    const EventLoop::TimePoint before = now;
    now = EventLoop::Now();
    if (ran_here && before != 0) method_time_ += (now - before - method_time_) / 8;
    if (now - last_flush < EventLoop::kFlushAfter) continue;
    last_flush = now;
    alive = owner_->FlushNow();
  }
  ready_.clear();
  running_ready_ = false;
  return alive;
}

bool Calls::RunElsewhere(Stream* stream) {
  for (EventLoop* other : context_->loops) {
    if (other == loop_ || !other->ClaimIdle()) continue;
    try {
      // It is not this thread's any more, but cannot go before its mail has come.
      other->Post([stream] { Run(stream); });
      return true;
    } catch (const std::exception&) {
      return false;
    }
  }
  return false;
}

bool Calls::Dispatch(Stream* stream, bool more_waiting) {
  const std::size_t calls = context_->calls.fetch_add(1, std::memory_order_relaxed);
  if (context_->settings.max_calls != 0 && calls >= context_->settings.max_calls) {
    context_->calls.fetch_sub(1, std::memory_order_relaxed);
    stream->End(kResourceExhausted, "The server already has " + std::to_string(context_->settings.max_calls) +
                                        " calls in flight");
    return false;
  }
  stream->BeginMethod();
  const bool run_here = !more_waiting || method_time_ <= kWorthSharing || !RunElsewhere(stream);
  if (run_here) Run(stream);
  // A stream that has been finished is still there: only frames of the client, or sent ones, close it.
  if (stream->with_method()) SetDeadline(stream);
  return run_here;
}

void Calls::SetDeadline(Stream* stream) {
  if (!stream->has_deadline() || stream->deadline_timer || loop_ == nullptr) return;
  const std::int64_t left = std::max<std::int64_t>(stream->deadline_unix_us() - UnixMicros(), 0);
  stream->deadline_timer = loop_->AddTimer(EventLoop::Now() + left, [this, stream] { OnDeadline(stream); });
}

void Calls::WatchDeadlines() {
  for (Stream* stream : with_deadline_) {
    if (stream != nullptr && !stream->ending()) SetDeadline(stream);
  }
  with_deadline_.clear();
}

void Calls::OnDeadline(Stream* stream) {
  stream->deadline_timer.reset();
  if (stream->ending()) return;
  stream->Cancel();
  try {
    stream->End(kDeadlineExceeded, stream->with_method()
                                       ? "The deadline passed while the call was run"
                                       : "The deadline passed before the request was there");
  } catch (const std::exception&) {
    return;  // the client knows its deadline
  }
  owner_->OnOutput();
}

void Calls::OnStreamMail(Stream* stream) {
  stream->Finished();
  if (stream->ending() && stream->deadline_timer) {
    loop_->RemoveTimer(*stream->deadline_timer);
    stream->deadline_timer.reset();
  }
  if (!running_ready_) owner_->OnOutput();
}

bool Calls::OnAnswersLeft() {
  if (answers_left_.empty()) return false;
  for (std::size_t i = 0; i < answers_left_.size(); ++i) {
    if (answers_left_[i] != nullptr) answers_left_[i]->OnAnswerLeft();
  }
  answers_left_.clear();
  return true;
}

bool Calls::WaitForClient() const {
  for (Stream* stream = first_; stream != nullptr; stream = stream->next) {
    if (!stream->idle() && !stream->ending() && !stream->reply_pending()) return false;
  }
  return count_ > 0;
}

void Calls::EndStreams() {
  for (Stream* stream = first_; stream != nullptr; stream = stream->next) {
    const bool waits = stream->watching() || (stream->streaming() && stream->idle());
    if (waits && !stream->ending()) stream->End(kUnavailable, "The server is shutting down");
  }
}

void Calls::OnNotified() {
  for (Stream* stream = first_; stream != nullptr; stream = stream->next) stream->OnNotified();
}

}  // namespace tfipu::serving::net::http2
