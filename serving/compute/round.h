// What a thread starts before it runs any of it.
#ifndef SERVING_COMPUTE_ROUND_H_
#define SERVING_COMPUTE_ROUND_H_

#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"

namespace tfipu::serving::compute {

// A thread that finds several requests at once opens a round, starts their calls, and closes it: calls that
// go to one queue are all in it before any is run, and share a run. Without an open round a call is run when
// it is started. Of one thread.
class Round {
 public:
  // The calling thread's open round, or null.
  static Round* Current() { return current_; }

  // Opens the calling thread's round, which must not be open.
  static void Open();
  // Runs what was asked for, and what that asks for, then closes the round.
  static void Close();

  bool Has(const void* queue) const;
  // Calls `run` when the round is closed; at once if there is no memory to remember it.
  void AtEnd(const void* queue, absl::AnyInvocable<void()> run) noexcept;

 private:
  static thread_local Round* current_;

  std::vector<std::pair<const void*, absl::AnyInvocable<void()>>> waiting_;
};

class ScopedRound {
 public:
  ScopedRound() { Round::Open(); }
  ~ScopedRound() { Round::Close(); }
  ScopedRound(const ScopedRound&) = delete;
  ScopedRound& operator=(const ScopedRound&) = delete;
};

}  // namespace tfipu::serving::compute

#endif  // SERVING_COMPUTE_ROUND_H_
