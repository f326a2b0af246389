#include "serving/compute/round.h"

#include <algorithm>
#include <new>

namespace tfipu::serving::compute {

thread_local Round* Round::current_ = nullptr;

void Round::Open() {
  static thread_local Round round;
  current_ = &round;
}

void Round::Close() {
  Round& round = *current_;
  while (!round.waiting_.empty()) {
    std::vector<std::pair<const void*, absl::AnyInvocable<void()>>> waiting;
    waiting.swap(round.waiting_);
    for (auto& [_, run] : waiting) run();
    // Its memory serves the next round.
    waiting.clear();
    if (round.waiting_.empty()) round.waiting_.swap(waiting);
    if (round.waiting_.empty()) break;
  }
  current_ = nullptr;
}

bool Round::Has(const void* queue) const {
  return std::any_of(waiting_.begin(), waiting_.end(),
                     [&](const auto& entry) { return entry.first == queue; });
}

void Round::AtEnd(const void* queue, absl::AnyInvocable<void()> run) noexcept {
  try {
    waiting_.emplace_back(queue, std::move(run));
    return;
  } catch (const std::bad_alloc&) {
    // `run` has not been moved from: room is made first.
  }
  run();
}

}  // namespace tfipu::serving::compute
