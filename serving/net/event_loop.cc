#include "serving/net/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "serving/net/short_slices.h"

namespace tfipu::serving::net {
namespace {

constexpr EventLoop::TimePoint kRetryTimer = 100000;

class Task final : public Mail {
 public:
  explicit Task(std::function<void()> run) : run_(std::move(run)) {}
  void OnMail() override {
    run_();
    delete this;
  }

 private:
  const std::function<void()> run_;
};

}  // namespace

Mailbox::Mailbox() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Mailbox::~Mailbox() {
  if (wake_ >= 0) close(wake_);
}

void Mailbox::Put(Mail* mail) noexcept {
  bool first;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    mail->next_ = nullptr;
    first = first_ == nullptr;
    (first ? first_ : last_->next_) = mail;
    last_ = mail;
  }
  if (first) eventfd_write(wake_, 1);
}

void Mailbox::Deliver() {
  eventfd_t ignored;
  eventfd_read(wake_, &ignored);
  Mail* mail;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    mail = std::exchange(first_, nullptr);
  }
  while (mail != nullptr) {
    Mail* const next = mail->next_;
    mail->OnMail();
    mail = next;
  }
}

thread_local EventLoop* EventLoop::current_ = nullptr;

EventLoop::EventLoop(std::chrono::microseconds spin)
    : wait_(spin),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      read_buffer_(new char[kReadBuffer]),
      round_start_(Now()) {
  if (!ok()) return;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, mailbox_.descriptor(), &event);
}

EventLoop::~EventLoop() {
  Stop();
  DeleteDead();
  if (epoll_ >= 0) close(epoll_);
}

bool EventLoop::Start() {
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

void EventLoop::Stop() {
  if (!thread_.joinable()) return;
  Post([this] { stopped_ = true; });
  thread_.join();
}

void EventLoop::Post(std::function<void()> task) { mailbox_.Put(new Task(std::move(task))); }

bool EventLoop::Watch(int fd, std::uint32_t events, SocketWatcher* watcher) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = watcher;
  return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0;
}

void EventLoop::Unwatch(int fd, SocketWatcher* watcher) {
  epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  std::replace(fetched_, fetched_ + fetched_count_, watcher, static_cast<SocketWatcher*>(nullptr));
  if (watcher->wants_turn_)
    std::replace(turns_.begin(), turns_.end(), watcher, static_cast<SocketWatcher*>(nullptr));
  if (watcher->wants_flush_) {
    std::replace(flushes_.begin(), flushes_.end(), watcher, static_cast<SocketWatcher*>(nullptr));
  }
  watcher->wants_turn_ = watcher->wants_flush_ = false;
}

void EventLoop::DeleteLater(SocketWatcher* watcher) {
  watcher->next_dead_ = dead_;
  dead_ = watcher;
}

void EventLoop::FlushAtEndOfRound(SocketWatcher* watcher) {
  if (watcher->wants_flush_) return;
  if (flushes_.empty()) flush_asked_ = Now();
  flushes_.push_back(watcher);
  watcher->wants_flush_ = true;
}

void EventLoop::NextRound(SocketWatcher* watcher) {
  if (watcher->wants_turn_) return;
  turns_.push_back(watcher);
  watcher->wants_turn_ = true;
}

EventLoop::TimePoint EventLoop::Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * std::int64_t{1000000} + now.tv_nsec / 1000;
}

void EventLoop::Run() {
  AskForShortSlices();
  current_ = this;
  while (!stopped_) {
    int timeout = RunTimers();
    if (!turns_.empty() || !at_end_.empty() || !flushes_.empty()) timeout = 0;
    idle_.store(true, std::memory_order_relaxed);
    const int ready = wait_.Wait(epoll_, events_, kEvents, timeout);
    idle_.store(false, std::memory_order_relaxed);
    round_start_ = Now();
    RunSockets(ready);
    EndRound();
  }
  current_ = nullptr;
}

void EventLoop::RunSockets(int ready) {
  bool mail = false;
  fetched_count_ = 0;
  for (int i = 0; i < ready; ++i) {
    fetched_[fetched_count_++] = static_cast<SocketWatcher*>(events_[i].data.ptr);
    mail |= events_[i].data.ptr == nullptr;
  }
  GiveTurns();
  for (int i = 0; i < fetched_count_; ++i) {
    if (fetched_[i] == nullptr) continue;
    fetched_[i]->OnSocket(events_[i].events);
    if (!flushes_.empty() && i + 1 < fetched_count_ && Now() - flush_asked_ > kFlushAfter) Flush();
  }
  fetched_count_ = 0;
  if (mail) mailbox_.Deliver();
}

void EventLoop::GiveTurns() {
  // Those who ask again from their turn come in the next round.
  for (std::size_t left = turns_.size(), i = 0; left > 0; --left, ++i) {
    SocketWatcher* const watcher = turns_[i];
    if (watcher == nullptr) continue;
    turns_[i] = nullptr;
    watcher->wants_turn_ = false;
    watcher->OnSocket(0);
  }
  turns_.erase(std::remove(turns_.begin(), turns_.end(), nullptr), turns_.end());
}

void EventLoop::EndRound() {
  if (!at_end_.empty()) {
    std::vector<std::function<void()>> callbacks;
    callbacks.swap(at_end_);
    for (auto& callback : callbacks) callback();
  }
  Flush();
  DeleteDead();
}

void EventLoop::Flush() {
  for (std::size_t left = flushes_.size(), i = 0; left > 0; --left, ++i) {
    SocketWatcher* const watcher = flushes_[i];
    if (watcher == nullptr) continue;
    flushes_[i] = nullptr;
    watcher->wants_flush_ = false;
    watcher->OnFlush();
  }
  flushes_.erase(std::remove(flushes_.begin(), flushes_.end(), nullptr), flushes_.end());
}

void EventLoop::DeleteDead() {
  while (dead_ != nullptr) {
    SocketWatcher* const dead = dead_;
    dead_ = dead->next_dead_;
    delete dead;
  }
}

int EventLoop::RunTimers() {
  while (!timers_.empty()) {
    const TimePoint now = Now();
    auto first = timers_.begin();
    if (first->first > now)
      return static_cast<int>(std::min<TimePoint>((first->first - now + 999) / 1000, 60000));
    auto timer = timers_.extract(first);
    try {
      timer.mapped()();
    } catch (const std::exception&) {
      // Memory is short; it is tried again, and takes no new memory for that.
      timer.key() = now + kRetryTimer;
      timers_.insert(std::move(timer));
    }
  }
  return -1;
}

}  // namespace tfipu::serving::net
