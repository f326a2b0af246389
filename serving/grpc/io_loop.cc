#include "serving/grpc/io_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "serving/core/short_slices.h"

namespace tfipu::serving {

thread_local const IoLoop* IoLoop::running_here_ = nullptr;

IoLoop::IoLoop(std::chrono::microseconds spin)
    : wait_(spin),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      read_buffer_(new char[kReadBuffer]) {
  if (!ok()) return;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event);
}

IoLoop::~IoLoop() {
  Stop();
  if (wake_ >= 0) close(wake_);
  if (epoll_ >= 0) close(epoll_);
}

void IoLoop::Start() {
  thread_ = std::thread([this] { Run(); });
}

void IoLoop::Stop() {
  if (!thread_.joinable()) return;
  Post([this] { stopped_ = true; });
  thread_.join();
}

void IoLoop::Post(std::function<void()> task) {
  bool wake;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push_back(std::move(task));
    wake = !woken_;
    woken_ = true;
  }
  if (wake) eventfd_write(wake_, 1);
}

bool IoLoop::Watch(int fd, std::uint32_t events, SocketWatcher* watcher) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = watcher;
  return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0;
}

void IoLoop::Rewatch(int fd, std::uint32_t events, SocketWatcher* watcher) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = watcher;
  epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

void IoLoop::Unwatch(int fd, SocketWatcher* watcher) {
  epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
  std::replace(fetched_.begin(), fetched_.end(), watcher, static_cast<SocketWatcher*>(nullptr));
}

IoLoop::TimePoint IoLoop::Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * std::int64_t{1000000} + now.tv_nsec / 1000;
}

void IoLoop::Run() {
  AskForShortSlices();
  running_here_ = this;
  constexpr int kEvents = 64;
  epoll_event events[kEvents];
  while (!stopped_) {
    const int timeout = RunTimers();
    idle_.store(true, std::memory_order_relaxed);
    const int ready = wait_.Wait(epoll_, events, kEvents, timeout);
    idle_.store(false, std::memory_order_relaxed);
    bool woken = false;
    fetched_.clear();
    for (int i = 0; i < ready; ++i) {
      auto* watcher = static_cast<SocketWatcher*>(events[i].data.ptr);
      woken |= watcher == nullptr;
      fetched_.push_back(watcher);
    }
    for (int i = 0; i < ready; ++i) {
      if (fetched_[i] != nullptr) fetched_[i]->OnSocket(events[i].events);
    }
    if (woken) {
      eventfd_t ignored;
      eventfd_read(wake_, &ignored);
      RunTasks();
    }
  }
}

void IoLoop::RunTasks() {
  std::vector<std::function<void()>> tasks;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tasks.swap(tasks_);
    woken_ = false;
  }
  for (auto& task : tasks) task();
}

int IoLoop::RunTimers() {
  while (!timers_.empty()) {
    const TimePoint now = Now();
    auto first = timers_.begin();
    if (first->first > now)
      return static_cast<int>(std::min<TimePoint>((first->first - now + 999) / 1000, 60000));
    auto task = std::move(first->second);
    timers_.erase(first);
    task();
  }
  return -1;
}

}  // namespace tfipu::serving
