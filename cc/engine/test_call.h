// Calls on the program of fake_device.h whose answers can be checked.
#ifndef CC_ENGINE_TEST_CALL_H_
#define CC_ENGINE_TEST_CALL_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "cc/base/buffer.h"
#include "cc/engine/engine.h"
#include "cc/engine/fake_device.h"

namespace tfipu {

// Owns a call's buffers and waits for its answer. Destroyed only after it was answered.
class TestCall {
 public:
  // `rows` rows of x that start at `value`; `offset` bytes from alignment.
  TestCall(std::int64_t rows, std::int32_t value, std::size_t offset = 0)
      : rows_(rows),
        x_(rows * kFakeWidth * 4 + offset),
        k_(rows * 4 + offset),
        y_(rows * kFakeWidth * 4 + offset),
        next_(rows * 4 + offset),
        offset_(offset) {
    for (std::int64_t i = 0; i < rows * kFakeWidth; ++i) Ints(x_)[i] = value + static_cast<std::int32_t>(i);
    for (std::int64_t i = 0; i < rows; ++i) Ints(k_)[i] = 7 * value + static_cast<std::int32_t>(i);
    Poison();
  }

  Call Make() {
    Call call;
    call.infeeds = {View(x_), View(k_)};
    call.outfeeds = {View(y_), View(next_)};
    call.rows = rows_;
    call.done = [this](absl::Status status) {
      const bool right = !status.ok() || Right();
      std::lock_guard<std::mutex> lock(mutex_);
      ++answers_;
      status_ = std::move(status);
      right_ = right;
      // What the engine writes from now on is wrong.
      Poison();
      answered_.notify_all();
    };
    return call;
  }

  absl::Status Await() {
    std::unique_lock<std::mutex> lock(mutex_);
    answered_.wait(lock, [this] { return answers_ > 0; });
    return status_;
  }

  int answers() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return answers_;
  }

  // Whether a successful answer had the right results.
  bool right() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return right_;
  }

  // Whether nothing was written after the answer.
  bool untouched() const {
    for (std::size_t i = 0; i < y_.size(); ++i) {
      if (y_.data()[i] != kPoison) return false;
    }
    for (std::size_t i = 0; i < next_.size(); ++i) {
      if (next_.data()[i] != kPoison) return false;
    }
    return true;
  }

  const void* x() const { return x_.data() + offset_; }
  const void* y() const { return y_.data() + offset_; }

 private:
  static constexpr std::byte kPoison{0xA5};

  std::int32_t* Ints(const AlignedBuffer& buffer) const {
    return reinterpret_cast<std::int32_t*>(buffer.data() + offset_);
  }
  MutableBuffer View(const AlignedBuffer& buffer) const { return buffer.span().subspan(offset_); }

  void Poison() {
    for (std::byte& byte : y_.span()) byte = kPoison;
    for (std::byte& byte : next_.span()) byte = kPoison;
  }

  bool Right() const {
    for (std::int64_t row = 0; row < rows_; ++row) {
      for (int i = 0; i < kFakeWidth; ++i) {
        const std::int64_t at = row * kFakeWidth + i;
        if (Ints(y_)[at] != 2 * Ints(x_)[at] + Ints(k_)[row]) return false;
      }
      if (Ints(next_)[row] != Ints(k_)[row] + 1) return false;
    }
    return true;
  }

  const std::int64_t rows_;
  AlignedBuffer x_, k_, y_, next_;
  const std::size_t offset_;
  mutable std::mutex mutex_;
  std::condition_variable answered_;
  int answers_ = 0;
  bool right_ = false;
  absl::Status status_;
};

}  // namespace tfipu

#endif  // CC_ENGINE_TEST_CALL_H_
