// Threads for what takes longer than those that wait for sockets may take. Plain C++.
#ifndef SERVING_NET_WORKERS_H_
#define SERVING_NET_WORKERS_H_

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

namespace tfipu::serving::net {

// A piece of work that needs no memory of its own to wait. Waits once at a time.
class Work {
 public:
  // Does a part of it, of a millisecond or so. Whether there is more; without, the work may be gone.
  virtual bool DoPart() = 0;

 protected:
  ~Work() = default;

 private:
  friend class Workers;
  Work* next_ = nullptr;
};

// Does work in turns: a part of each, so that what is large does not hold up what is small. Makes its threads
// when there is work for them. Thread-safe.
class Workers {
 public:
  explicit Workers(int threads) : most_(static_cast<std::size_t>(threads)) {}
  // Waits for all work.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // False, and nothing happens, when there is no thread and none is to be had.
  bool Do(Work* work) noexcept;

 private:
  void Run();

  const std::size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ends_ = false;
  std::size_t idle_ = 0;
  Work* first_ = nullptr;
  Work* last_ = nullptr;
  std::vector<std::thread> threads_;
};

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_WORKERS_H_
