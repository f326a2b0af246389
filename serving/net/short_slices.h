// How an IO thread gets the CPU in time.
#ifndef SERVING_NET_SHORT_SLICES_H_
#define SERVING_NET_SHORT_SLICES_H_

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace tfipu::serving::net {

// Tells the scheduler that the calling thread wants the CPU often and for short times: when models compute on
// all cores, it is then the next to run soon after it wakes up, rather than after another thread's whole
// turn. It gets no larger share of the CPU, so nothing else on the machine suffers. For Linux 6.12 and later;
// older ones ignore it.
inline void AskForShortSlices() {
  // The C library has no name for this yet.
  struct {
    std::uint32_t size, policy;
    std::uint64_t flags;
    std::int32_t nice;
    std::uint32_t priority;
    std::uint64_t slice_ns, deadline, period;
  } attributes{};
  attributes.size = sizeof(attributes);
  // With the policy and the nice value that it has.
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) != 0) return;
  attributes.slice_ns = 100'000;  // the least that the kernel takes
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_SHORT_SLICES_H_
