// What a caller says about the calls that its thread is about to make.
#ifndef CC_ENGINE_CALL_CONTEXT_H_
#define CC_ENGINE_CALL_CONTEXT_H_

#include <functional>

#include "absl/time/time.h"
#include "cc/engine/engine.h"

namespace tfipu {

// Goes past interfaces that have no room for it, TensorFlow's session above all: a server sets it around the
// run of a session in its own thread, and the kernel that enqueues the call reads it there.
struct CallContext {
  absl::Time deadline = absl::InfiniteFuture();
  Priority priority = Priority::kNormal;
  // Call::cancelled.
  std::function<bool()> cancelled;
  // Grows by what the calls wait for a device (Call::waited). Null: nobody wants to know.
  absl::Duration* waited = nullptr;
};

// Makes `context` the calling thread's for as long as the object lives; they nest. The context must outlive
// it.
class ScopedCallContext {
 public:
  explicit ScopedCallContext(const CallContext* context);
  ~ScopedCallContext();
  ScopedCallContext(const ScopedCallContext&) = delete;
  ScopedCallContext& operator=(const ScopedCallContext&) = delete;

 private:
  const CallContext* const outer_;
};

// The calling thread's context; nullptr when none was set.
const CallContext* CurrentCallContext();

}  // namespace tfipu

#endif  // CC_ENGINE_CALL_CONTEXT_H_
