// Gives memory back to the system after large pieces of it were freed.
#ifndef SERVING_BASE_MEMORY_RETURN_H_
#define SERVING_BASE_MEMORY_RETURN_H_

#include <string>

namespace tfipu::serving::base {

// The allocator keeps what is freed for the next one who asks. After a large model or request that is memory
// which nobody uses: one thread of the process trims the allocator when nothing large has been freed for
// 200 ms, at the latest every ten seconds. At once would hold the allocator's locks while calls are served.
// All functions may be called from any thread; none of them waits or throws.

// Something large was freed.
void ReturnMemorySoon() noexcept;

// Frees a block of malloc's on that thread: to unmap a gigabyte takes longer than a thread that others wait
// for has. `block` has 16 bytes or more.
void FreeElsewhere(void* block) noexcept;
// The same for a text.
void FreeElsewhere(std::string text) noexcept;

}  // namespace tfipu::serving::base

#endif  // SERVING_BASE_MEMORY_RETURN_H_
