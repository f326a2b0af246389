// The border behind which an allocation that fails costs one call.
#ifndef SERVING_COMPUTE_GUARDED_H_
#define SERVING_COMPUTE_GUARDED_H_

#include <new>
#include <utility>

namespace tfipu::serving::compute {

// Runs a part of a call. The call's objects answer for it when they are destroyed unfinished, so an exception
// that ends here has cost that call and nothing else. Wherever a thread that is not the call's alone begins
// to work for one, it does so through this.
template <typename Function>
void Guarded(Function&& function) noexcept {
  try {
    std::forward<Function>(function)();
  } catch (const std::bad_alloc&) {
    // What was unwound has answered.
  }
}

}  // namespace tfipu::serving::compute

#endif  // SERVING_COMPUTE_GUARDED_H_
