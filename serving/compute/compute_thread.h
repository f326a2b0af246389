// How threads that compute leave the CPU to those that answer.
#ifndef SERVING_COMPUTE_COMPUTE_THREAD_H_
#define SERVING_COMPUTE_COMPUTE_THREAD_H_

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace tfipu::serving::compute {

// A thread that reads sockets and has something to do goes first: with this the calling thread gets about a
// quarter of a core that both want. While nobody else wants it, it has it all.
inline constexpr int kComputeNice = 5;

inline void BecomeComputeThread() {
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kComputeNice);
}

}  // namespace tfipu::serving::compute

#endif  // SERVING_COMPUTE_COMPUTE_THREAD_H_
