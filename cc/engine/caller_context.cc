#include "cc/engine/caller_context.h"

namespace tfipu {
namespace {
thread_local const CallerContext* current = nullptr;
}  // namespace

ScopedCallerContext::ScopedCallerContext(const CallerContext* context) : outer_(current) {
  current = context;
}

ScopedCallerContext::~ScopedCallerContext() { current = outer_; }

const CallerContext* CurrentCallerContext() { return current; }

}  // namespace tfipu
