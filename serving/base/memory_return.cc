#include "serving/base/memory_return.h"

#include <malloc.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace tfipu::serving::base {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kQuiet{200};
constexpr std::chrono::seconds kLongest{10};

// Never destroyed: its thread runs until the process ends.
class Returner {
 public:
  static Returner& Get() {
    static auto* const returner = new Returner;
    return *returner;
  }

  void Freed() {
    std::lock_guard<std::mutex> lock(mutex_);
    Wake();
  }

  void Free(void* block) {
    std::lock_guard<std::mutex> lock(mutex_);
    *static_cast<void**>(block) = blocks_;
    blocks_ = block;
    Wake();
    // No thread could be made: memory is freed all the same.
    if (!running_) FreeBlocks(std::exchange(blocks_, nullptr));
  }

  void Free(std::string text) {
    std::lock_guard<std::mutex> lock(mutex_);
    texts_.push_back(std::move(text));
    Wake();
    if (!running_) texts_.clear();
  }

 private:
  static void FreeBlocks(void* block) {
    while (block != nullptr) {
      void* const next = *static_cast<void**>(block);
      std::free(block);
      block = next;
    }
  }

  // With the lock held.
  void Wake() {
    const Clock::time_point now = Clock::now();
    if (!due_) latest_ = now + kLongest;
    due_ = true;
    when_ = std::min(now + kQuiet, latest_);
    if (!running_) {
      try {
        std::thread([this] { Run(); }).detach();
        running_ = true;
      } catch (const std::exception&) {
        return;  // the next time
      }
    }
    changed_.notify_one();
  }

  void Run() {
    // Else it has the name of the thread that was the first to free something.
    pthread_setname_np(pthread_self(), "memory-return");
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      if (blocks_ != nullptr || !texts_.empty()) {
        void* const blocks = std::exchange(blocks_, nullptr);
        std::vector<std::string> texts = std::exchange(texts_, {});
        lock.unlock();
        FreeBlocks(blocks);
        texts.clear();
        lock.lock();
      } else if (!due_) {
        changed_.wait(lock);
      } else if (Clock::now() < when_) {
        changed_.wait_until(lock, when_);
      } else {
        due_ = false;
        lock.unlock();
        malloc_trim(0);
        lock.lock();
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool running_ = false;
  bool due_ = false;
  Clock::time_point when_, latest_;
  void* blocks_ = nullptr;  // each points to the next
  std::vector<std::string> texts_;
};

}  // namespace

void ReturnMemorySoon() noexcept { Returner::Get().Freed(); }

void FreeElsewhere(void* block) noexcept { Returner::Get().Free(block); }

void FreeElsewhere(std::string text) noexcept {
  try {
    Returner::Get().Free(std::move(text));
  } catch (const std::exception&) {
    // Freed here, then.
  }
}

}  // namespace tfipu::serving::base
