#include "serving/net/buffer.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "serving/base/memory_return.h"

namespace tfipu::serving::net {
namespace {

constexpr std::size_t kLarge = 1 << 20;      // worth giving back to the system
constexpr std::size_t kVeryLarge = 8 << 20;  // takes long to free

}  // namespace

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  Clear();
  account_ = other.account_;
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  capacity_ = std::exchange(other.capacity_, 0);
  return *this;
}

bool Buffer::Reserve(std::size_t capacity) {
  if (capacity <= capacity_) return true;
  const std::size_t more = capacity - capacity_;
  if (account_ != nullptr && !account_->Take(more)) return false;
  // realloc moves the pages of what is large, and copies none of it.
  char* const grown = static_cast<char*>(std::realloc(data_, capacity));
  if (grown == nullptr) {
    if (account_ != nullptr) account_->Give(more);
    return false;
  }
  data_ = grown;
  capacity_ = capacity;
  return true;
}

bool Buffer::Grow(std::size_t capacity, std::size_t most) {
  if (capacity <= capacity_) return true;
  // Close to a bound, in steps that are smaller but still grow with what is there.
  return Reserve(std::max(capacity, std::min(most, capacity_ * 2))) ||
         Reserve(std::max(capacity, std::min(most, capacity_ + capacity_ / 8)));
}

bool Buffer::Append(std::string_view bytes, std::size_t most) {
  if (bytes.empty()) return true;
  if (!Grow(size_ + bytes.size(), most)) return false;
  std::memcpy(data_ + size_, bytes.data(), bytes.size());
  size_ += bytes.size();
  return true;
}

void Buffer::CountBy(MemoryAccount* account) {
  if (account_ != nullptr) account_->Give(capacity_);
  account_ = account;
  if (account_ != nullptr) account_->Must(capacity_);
}

void Buffer::RemovePrefix(std::size_t size) {
  if (size == 0) return;
  size_ -= size;
  if (size_ > 0) std::memmove(data_, data_ + size, size_);
}

void Buffer::Clear() {
  if (data_ == nullptr) return;
  if (account_ != nullptr) account_->Give(capacity_);
  if (capacity_ >= kVeryLarge) {
    base::FreeElsewhere(data_);
  } else {
    std::free(data_);
    if (capacity_ >= kLarge) base::ReturnMemorySoon();
  }
  data_ = nullptr;
  size_ = capacity_ = 0;
}

}  // namespace tfipu::serving::net
