// What a caller says about the calls that its thread is about to make.
#ifndef CC_ENGINE_CALLER_CONTEXT_H_
#define CC_ENGINE_CALLER_CONTEXT_H_

#include <functional>

#include "absl/time/time.h"
#include "cc/engine/engine.h"

namespace tfipu {

// Goes past interfaces that have no room for it, TensorFlow's session above all: a server sets it around the
// run of a session in its own thread, and the kernel that enqueues the call reads it there.
struct CallerContext {
  absl::Time deadline = absl::InfiniteFuture();
  Priority priority = Priority::kNormal;
  // Call::cancelled.
  std::function<bool()> cancelled;
  // Grows by what the calls wait for a device (Call::waited). Null: nobody wants to know.
  absl::Duration* waited = nullptr;
};

// Makes `context` the calling thread's for as long as the object lives; they nest. The context must outlive
// it.
class ScopedCallerContext {
 public:
  explicit ScopedCallerContext(const CallerContext* context);
  ~ScopedCallerContext();
  ScopedCallerContext(const ScopedCallerContext&) = delete;
  ScopedCallerContext& operator=(const ScopedCallerContext&) = delete;

 private:
  const CallerContext* const outer_;
};

// The calling thread's context; nullptr when none was set.
const CallerContext* CurrentCallerContext();

}  // namespace tfipu

#endif  // CC_ENGINE_CALLER_CONTEXT_H_
