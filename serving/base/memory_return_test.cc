#include "serving/base/memory_return.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace tfipu::serving::base {
namespace {

// Pieces below the size that the allocator maps one by one; the last one keeps the heap from shrinking by
// itself.
TEST(MemoryReturnTest, TrimsWhatTheAllocatorKeeps) {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  std::vector<void*> blocks;
  for (int i = 0; i < 64; ++i) {
    blocks.push_back(std::malloc(1 << 20));
    std::memset(blocks.back(), 1, 1 << 20);
  }
  void* const last = std::malloc(100);
  const std::size_t before = mallinfo2().fordblks;
  for (void* block : blocks) FreeElsewhere(block);
  // keepcost is what lies free at the top; resident memory cannot be asked of the allocator, so the kernel
  // is.
  const auto resident = [] {
    std::FILE* const file = std::fopen("/proc/self/statm", "r");
    long size = 0, pages = 0;
    if (std::fscanf(file, "%ld %ld", &size, &pages) != 2) pages = 0;
    std::fclose(file);
    return pages * 4096;
  };
  const long full = resident();
  while (resident() > full - (32 << 20)) std::this_thread::yield();
  EXPECT_GE(mallinfo2().fordblks, before + (60u << 20));
  std::free(last);
}

TEST(MemoryReturnTest, TakesTexts) {
  FreeElsewhere(std::string(100, 'x'));
  FreeElsewhere(std::string());
  ReturnMemorySoon();
}

}  // namespace
}  // namespace tfipu::serving::base
