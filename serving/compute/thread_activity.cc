#include "serving/compute/thread_activity.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace tfipu::serving::compute {

ThreadActivity::ThreadActivity() : id_(static_cast<pid_t>(syscall(SYS_gettid))) {
  if (pthread_getcpuclockid(pthread_self(), &clock_) != 0) clock_ = CLOCK_MONOTONIC;
}

std::chrono::nanoseconds ThreadActivity::CpuTime() const {
  timespec time{};
  clock_gettime(clock_, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

bool ThreadActivity::Asleep() const {
  char path[64];
  std::snprintf(path, sizeof(path), "/proc/self/task/%d/stat", static_cast<int>(id_));
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  // Without the file, no CPU time has to do.
  if (file < 0) return true;
  char text[256];
  const ssize_t size = read(file, text, sizeof(text) - 1);
  close(file);
  if (size <= 0) return true;
  text[size] = '\0';
  // "id (name) S ...", and the name may have parentheses.
  const char* const name_end = std::strrchr(text, ')');
  return name_end == nullptr || name_end[1] == '\0' || name_end[2] != 'R';
}

}  // namespace tfipu::serving::compute
