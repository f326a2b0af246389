// Bytes of one connection, counted. Plain C++.
#ifndef SERVING_NET_BUFFER_H_
#define SERVING_NET_BUFFER_H_

#include <cstddef>
#include <string_view>
#include <utility>

#include "serving/net/memory_budget.h"

namespace tfipu::serving::net {

// Memory that grows, is not initialised, and is counted by an account as it grows. It never throws: what does
// not fit into the bounds or the machine is told. Large memory is freed on another thread and given back to
// the system. For one thread at a time; the account, if there is one, outlives it.
class Buffer {
 public:
  explicit Buffer(MemoryAccount* account = nullptr) : account_(account) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() { Clear(); }

  char* data() { return data_; }
  const char* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t capacity() const { return capacity_; }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {data_, size_}; }

  // Makes room for `capacity` bytes in all. False, and nothing has changed, when that is too much.
  bool Reserve(std::size_t capacity);
  // The same, growing by factors of two up to `most`, as something grows whose end is not known.
  bool Grow(std::size_t capacity, std::size_t most);
  // Appends; the room grows as by Grow().
  bool Append(std::string_view bytes, std::size_t most);
  // Says how many bytes are in use; at most capacity().
  void set_size(std::size_t size) { size_ = size; }
  // From now on another account counts it; null: none.
  void CountBy(MemoryAccount* account);
  // Takes bytes off the front, by moving the rest.
  void RemovePrefix(std::size_t size);
  // Frees everything.
  void Clear();

 private:
  MemoryAccount* account_ = nullptr;
  char* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace tfipu::serving::net

#endif  // SERVING_NET_BUFFER_H_
