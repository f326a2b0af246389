#include "serving/core/periodic_thread.h"

#include <pthread.h>

#include <exception>
#include <utility>

#include "serving/core/log.h"

namespace tfipu::serving {

PeriodicThread::PeriodicThread(std::string name, absl::Duration interval, std::function<void()> work)
    : name_(std::move(name)), interval_(interval), work_(std::move(work)), thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), name_.c_str());
}

PeriodicThread::~PeriodicThread() {
  Stop();
  thread_.join();
}

void PeriodicThread::Stop() {
  absl::MutexLock lock(&mutex_);
  stopped_ = true;
}

void PeriodicThread::Run() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopped_), interval_)) return;
    }
    try {
      work_();
    } catch (const std::exception& error) {
      LogError("Thread \"", name_, "\": ", error.what(), "; it goes on.");
    }
  }
}

}  // namespace tfipu::serving
