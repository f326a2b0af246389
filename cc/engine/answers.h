// Calls whose outcome is known, to be told outside of all locks.
#ifndef CC_ENGINE_ANSWERS_H_
#define CC_ENGINE_ANSWERS_H_

#include <functional>
#include <memory>
#include <utility>

#include "cc/engine/call_queue.h"

namespace tfipu {

// A list through the calls themselves, as there may be no memory for another. Each is told its `status`, in
// the order in which they were added.
class Answers {
 public:
  Answers() = default;
  ~Answers() { Tell(); }
  Answers(const Answers&) = delete;
  Answers& operator=(const Answers&) = delete;

  void Add(std::unique_ptr<PendingCall> call) {
    call->next = nullptr;
    (last_ == nullptr ? first_ : last_->next) = call.get();
    last_ = call.release();
  }

  bool empty() const { return first_ == nullptr; }
  const PendingCall* first() const { return first_; }

  void Tell() {
    while (first_ != nullptr) {
      const std::unique_ptr<PendingCall> call(std::exchange(first_, first_->next));
      if (first_ == nullptr) last_ = nullptr;
      std::function<void(absl::Status)> done = std::move(call->call.done);
      done(std::move(call->status));
    }
  }

 private:
  PendingCall* first_ = nullptr;
  PendingCall* last_ = nullptr;
};

}  // namespace tfipu

#endif  // CC_ENGINE_ANSWERS_H_
