#include "serving/net/io_threads.h"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

namespace tfipu::serving::net {

std::shared_ptr<IoThreads> IoThreads::Start(int count, std::chrono::microseconds spin, std::string* error) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::shared_ptr<IoThreads> threads(new IoThreads);
  threads->workers_ = std::make_unique<Workers>(cores);
  for (int i = 0; i < (count > 0 ? count : cores); ++i) {
    threads->loops_.push_back(std::make_unique<EventLoop>(spin));
    EventLoop& loop = *threads->loops_.back();
    if (!loop.ok() || !loop.Start()) {
      *error = std::string("Could not set up an IO thread: ") + std::strerror(errno);
      return nullptr;
    }
  }
  return threads;
}

IoThreads::~IoThreads() {
  // Work that ends posts to the loops.
  workers_.reset();
  for (auto& loop : loops_) loop->Stop();
}

void IoThreads::RunOnEach(const std::function<void(std::size_t index)>& function) {
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t left = loops_.size();
  for (std::size_t i = 0; i < loops_.size(); ++i) {
    loops_[i]->Post([&, i] {
      function(i);
      std::lock_guard<std::mutex> lock(mutex);
      if (--left == 0) changed.notify_one();
    });
  }
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock, [&] { return left == 0; });
}

}  // namespace tfipu::serving::net
