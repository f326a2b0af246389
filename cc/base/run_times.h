// How long work may take to be run by whom. docs/design/who_runs_a_call.md tells the whole story.
#ifndef CC_BASE_RUN_TIMES_H_
#define CC_BASE_RUN_TIMES_H_

#include <atomic>
#include <chrono>

namespace tfipu {

// What takes no longer than this on average may be run by a thread that others wait for, such as one that
// reads sockets. A thread that runs the work of others leaves after this time.
inline constexpr std::chrono::microseconds kShortWork{200};

// What takes longer than this is worth giving to another thread that is idle: two hand-overs take as long.
inline constexpr std::chrono::microseconds kWorthHandingOver{30};

// How long a thread that has run its own calls on a device stays for those that came meanwhile: to wake
// another thread for them takes as long.
inline constexpr std::chrono::microseconds kStayForOthers{20};

// How long some kind of work has lately taken. Rises at once and falls slowly: one long piece that holds up
// the thread of many is worse than some that are handed over. Thread-safe; an update may get lost between
// threads.
class RecentTime {
 public:
  void Add(std::chrono::duration<float, std::micro> took) {
    const float average = microseconds_.load(std::memory_order_relaxed);
    const float share = took.count() > average ? 0.125f : 0.02f;
    microseconds_.store(average < 0 ? took.count() : average + (took.count() - average) * share,
                        std::memory_order_relaxed);
  }

  // False until there was one.
  bool known() const { return microseconds_.load(std::memory_order_relaxed) >= 0; }
  // Zero until there was one.
  std::chrono::duration<float, std::micro> average() const {
    const float average = microseconds_.load(std::memory_order_relaxed);
    return std::chrono::duration<float, std::micro>(average < 0 ? 0 : average);
  }
  bool IsShort() const { return known() && average() < kShortWork; }

 private:
  std::atomic<float> microseconds_{-1};
};

}  // namespace tfipu

#endif  // CC_BASE_RUN_TIMES_H_
