#include "serving/net/http2/connection.h"

#include <exception>
#include <new>

namespace tfipu::serving::net::http2 {
namespace {

constexpr int kReadsInATurn = 4;
constexpr EventLoop::TimePoint kSecond = 1000000;
// How long a client may take to see that the connection ends.
constexpr EventLoop::TimePoint kAnnounceTime = kSecond;
// How long what still comes is thrown away, after the last answer.
constexpr EventLoop::TimePoint kLingerTime = kSecond;
// While the server shuts down, a client that takes nothing for so long does not hold it up.
constexpr EventLoop::TimePoint kDrainStall = 2 * kSecond;

}  // namespace

Connection::Connection(EventLoop* loop, CallContext* context, MemoryBudget* budget, Descriptor fd,
                       std::unique_ptr<TlsSession> tls, Closed closed)
    : loop_(loop),
      context_(context),
      account_(std::make_shared<MemoryAccount>(budget, context->settings.max_connection_bytes)),
      socket_(loop, std::move(fd), std::move(tls)),
      pump_(&socket_, account_.get()),
      closed_(std::move(closed)),
      created_(EventLoop::Now()),
      last_read_(created_),
      state_since_(created_) {
  calls_ = Calls::Create(this, loop, context, account_);
  if (calls_ == nullptr) throw std::bad_alloc();
}

template <typename Function>
void Connection::Guarded(Function function) {
  if (state_ == State::kClosed) return;
  bool alive = false;
  try {
    alive = function();
  } catch (const std::exception&) {
    // The connection pays for it.
  }
  if (!alive) return Close();
  EndIfDone();
}

void Connection::Start() {
  Guarded([this] { return socket_.Watch(this) && Flush(); });
}

void Connection::OnSocket(std::uint32_t events) {
  socket_.OnEvents(events);
  Guarded([this] {
    if (state_ == State::kLingering) return Discard();
    receiving_ = true;
    const bool alive = Receive() && calls_->RunReady();
    receiving_ = false;
    calls_->WatchDeadlines();
    if (alive && loop_->HasEndOfRound()) {
      // Calls may be answered at the end of the round, and then leave together.
      loop_->FlushAtEndOfRound(this);
      return true;
    }
    // What an error leaves to say, a GOAWAY, is said even then.
    return Flush() && alive;
  });
}

void Connection::OnFlush() {
  Guarded([this] { return state_ == State::kLingering || Flush(); });
}

void Connection::OnOutput() {
  if (receiving_) return;
  Guarded([this] {
    if (!calls_->RunReady()) return false;
    if (!loop_->InThread()) return Flush();
    // Others of the same mailbox or callback may follow: one write for all.
    loop_->FlushAtEndOfRound(this);
    return true;
  });
}

bool Connection::FlushNow() {
  const WritePump::Result result = pump_.Flush(calls_->session());
  return result != WritePump::Result::kBroken;
}

bool Connection::Receive() {
  for (int turn = 0; turn < kReadsInATurn; ++turn) {
    const long got = socket_.Receive(loop_->read_buffer(), EventLoop::kReadBuffer);
    if (got < 0) return true;
    if (got == 0) return false;
    last_read_ = context_->settings.keepalive_time == INT64_MAX ? 0 : EventLoop::Now();
    if (!calls_->Receive({loop_->read_buffer(), static_cast<std::size_t>(got)})) return false;
    if (!socket_.readable() && socket_.plain()) return true;
  }
  // A connection that always has more to read lets others have their turn.
  loop_->NextRound(this);
  return true;
}

bool Connection::Discard() {
  for (int turn = 0; turn < kReadsInATurn; ++turn) {
    const long got = socket_.Receive(loop_->read_buffer(), EventLoop::kReadBuffer);
    if (got <= 0) return got < 0;
  }
  loop_->NextRound(this);
  return true;
}

bool Connection::Flush() {
  while (true) {
    const WritePump::Result result = pump_.Flush(calls_->session());
    if (result == WritePump::Result::kBroken) return false;
    const bool answers_left = calls_->OnAnswersLeft();
    // Next messages of streams, and what is more than one turn's: others come first.
    if (calls_->has_ready() || result == WritePump::Result::kTurn) loop_->NextRound(this);
    if (!answers_left || result != WritePump::Result::kDone) return true;
  }
}

void Connection::Drain(bool shutdown) {
  Guarded([&] {
    shutdown_ |= shutdown;
    sent_at_tick_ = pump_.sent();
    sent_since_ = EventLoop::Now();
    if (state_ == State::kOpen) {
      state_ = State::kAnnounced;
      state_since_ = EventLoop::Now();
      calls_->session()->AnnounceEnd();
    }
    if (shutdown) calls_->EndStreams();
    return Flush();
  });
}

void Connection::OnEndSeen() {
  if (state_ != State::kAnnounced) return;
  state_ = State::kEnding;
  state_since_ = EventLoop::Now();
  calls_->session()->End();
}

void Connection::EndIfDone() {
  if (state_ == State::kLingering || state_ == State::kClosed || receiving_) return;
  if (!calls_->session()->done() || !pump_.empty()) return;
  // What has not been read would make the system reset the connection, and destroy answers on their way.
  socket_.SendEnd();
  state_ = State::kLingering;
  state_since_ = EventLoop::Now();
  if (!Discard()) Close();
}

void Connection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  calls_.reset();
  socket_.Close(this);
  closed_(this);
  loop_->DeleteLater(this);
}

bool Connection::KeepsAlive(EventLoop::TimePoint now) {
  const Settings& settings = context_->settings;
  if (now - last_read_ <= settings.keepalive_time) return true;
  if (pinged_ > last_read_) return now - pinged_ <= settings.keepalive_timeout;
  pinged_ = now;
  calls_->session()->Ping();
  return Flush();
}

void Connection::OnTick(EventLoop::TimePoint now) {
  const Settings& settings = context_->settings;
  if (state_ == State::kOpen && established_ &&
      (now - created_ > settings.max_age ||
       (calls_->count() == 0 && now - calls_->idle_since() > settings.max_idle))) {
    Drain(false);
  }
  Guarded([&] {
    calls_->session()->OnTick();
    if (pump_.sent() != sent_at_tick_) {
      sent_at_tick_ = pump_.sent();
      sent_since_ = now;
    }
    switch (state_) {
      case State::kLingering:
        return now - state_since_ <= kLingerTime;
      case State::kAnnounced:
        if (now - state_since_ > kAnnounceTime) {
          OnEndSeen();
          if (!Flush()) return false;
        }
        [[fallthrough]];
      case State::kEnding:
        if (shutdown_ && now - sent_since_ > kDrainStall && (!pump_.empty() || calls_->WaitForClient()))
          return false;
        if (now - created_ > settings.max_age && now - state_since_ > settings.max_age_grace) return false;
        break;
      default:
        if (!established_) return now - created_ <= settings.handshake_timeout;
    }
    return KeepsAlive(now);
  });
}

void Connection::OnNotified() {
  Guarded([this] {
    if (state_ == State::kLingering) return true;
    calls_->OnNotified();
    return Flush();
  });
}

}  // namespace tfipu::serving::net::http2
