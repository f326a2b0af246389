#include "cc/engine/call_context.h"

namespace tfipu {
namespace {
thread_local const CallContext* current = nullptr;
}  // namespace

ScopedCallContext::ScopedCallContext(const CallContext* context) : outer_(current) { current = context; }

ScopedCallContext::~ScopedCallContext() { current = outer_; }

const CallContext* CurrentCallContext() { return current; }

}  // namespace tfipu
