// What connections make the process hold, and the bounds of it. Plain C++.
#ifndef SERVING_NET_MEMORY_BUDGET_H_
#define SERVING_NET_MEMORY_BUDGET_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace tfipu::serving::net {

class MemoryAccount;

// The bound of the process on bytes that came from clients, were made of them by decompression, or wait to be
// sent to them. What a connection holds below kFreeBytes is not counted: it is bounded by the number of
// connections, requests that small are never refused for what others do, and cost no lock. Thread-safe;
// outlives its accounts.
class MemoryBudget {
 public:
  static constexpr std::size_t kFreeBytes = 64 << 10;

  // 0: no bound. With `one_beyond`, one connection at a time may go beyond the bound, up to its own; what it
  // holds is not counted for the others then. So the largest request that is legal is always possible.
  explicit MemoryBudget(std::size_t limit = 0, bool one_beyond = false)
      : limit_(limit), one_beyond_(one_beyond) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  struct Usage {
    std::size_t limit = 0;
    std::size_t held = 0;              // by all connections, what is beyond the bound included
    std::size_t most_held = 0;         // ever
    std::size_t most_held_by_one = 0;  // connection, ever
    std::uint64_t refused = 0;         // times that something was refused, by a connection's bound as well
  };
  Usage usage() const;

 private:
  friend class MemoryAccount;
  bool Add(MemoryAccount* account, std::int64_t bytes, bool must);
  void Refused() { refused_.fetch_add(1, std::memory_order_relaxed); }

  const std::size_t limit_;
  const bool one_beyond_;
  std::atomic<std::uint64_t> refused_{0};
  mutable std::mutex mutex_;
  std::int64_t held_ = 0;
  std::int64_t beyond_held_ = 0;
  const MemoryAccount* beyond_ = nullptr;
  std::int64_t most_held_ = 0;
  std::size_t most_held_by_one_ = 0;
};

// What one connection holds, and its bound. Thread-safe. Shared by the connection and what outlives it.
class MemoryAccount {
 public:
  // 0: no bound but the budget's. Without a budget nothing but the own bound counts.
  explicit MemoryAccount(MemoryBudget* budget = nullptr, std::size_t limit = 0)
      : budget_(budget), limit_(limit) {}
  ~MemoryAccount();
  MemoryAccount(const MemoryAccount&) = delete;
  MemoryAccount& operator=(const MemoryAccount&) = delete;

  // Asks for bytes before they are allocated. False when one of the bounds does not allow them; nothing is
  // taken then.
  bool Take(std::size_t bytes);
  // Counts bytes that are there already, whatever the bounds say.
  void Must(std::size_t bytes);
  void Give(std::size_t bytes);

  std::size_t held() const { return held_.load(std::memory_order_relaxed); }

 private:
  friend class MemoryBudget;
  // What of `held` the budget counts.
  static std::int64_t Counted(std::size_t held) {
    return held > MemoryBudget::kFreeBytes ? static_cast<std::int64_t>(held - MemoryBudget::kFreeBytes) : 0;
  }

  MemoryBudget* const budget_;
  const std::size_t limit_;
  std::atomic<std::size_t> held_{0};
  // Under the budget's lock. Below zero for a moment when threads overtake each other.
  std::int64_t counted_ = 0;
};

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_MEMORY_BUDGET_H_
