#include "serving/net/memory_budget.h"

#include <algorithm>

namespace tfipu::serving::net {

MemoryBudget::Usage MemoryBudget::usage() const {
  std::lock_guard<std::mutex> lock(mutex_);
  Usage usage;
  usage.limit = limit_;
  usage.held = static_cast<std::size_t>(std::max<std::int64_t>(held_ + beyond_held_, 0));
  usage.most_held = static_cast<std::size_t>(most_held_);
  usage.most_held_by_one = most_held_by_one_;
  usage.refused = refused_.load(std::memory_order_relaxed);
  return usage;
}

bool MemoryBudget::Add(MemoryAccount* account, std::int64_t bytes, bool must) {
  std::lock_guard<std::mutex> lock(mutex_);
  const bool fits = bytes <= 0 || limit_ == 0 || must || held_ + bytes <= static_cast<std::int64_t>(limit_);
  if (account != beyond_ && !fits) {
    if (!one_beyond_ || beyond_ != nullptr) return false;
    beyond_ = account;
    held_ -= account->counted_;
    beyond_held_ = account->counted_;
  }
  account->counted_ += bytes;
  if (account != beyond_) {
    held_ += bytes;
  } else {
    beyond_held_ += bytes;
    if (account->counted_ <= 0) {
      held_ += beyond_held_;
      beyond_held_ = 0;
      beyond_ = nullptr;
    }
  }
  most_held_ = std::max(most_held_, held_ + beyond_held_);
  const auto of_one = static_cast<std::int64_t>(kFreeBytes) + account->counted_;
  if (account->counted_ > 0)
    most_held_by_one_ = std::max(most_held_by_one_, static_cast<std::size_t>(of_one));
  return true;
}

MemoryAccount::~MemoryAccount() { Give(held()); }

bool MemoryAccount::Take(std::size_t bytes) {
  const std::size_t before = held_.fetch_add(bytes, std::memory_order_relaxed);
  const std::size_t after = before + bytes;
  const std::int64_t more = Counted(after) - Counted(before);
  const bool own = limit_ == 0 || after <= limit_;
  if (own && (more == 0 || budget_ == nullptr || budget_->Add(this, more, false))) return true;
  const std::size_t taken = held_.fetch_sub(bytes, std::memory_order_relaxed);
  if (budget_ == nullptr) return false;
  budget_->Refused();
  // What other threads counted meanwhile has bytes in it that are not there after all.
  const std::int64_t correction = Counted(taken - bytes) - Counted(taken) + more;
  if (correction != 0) budget_->Add(this, correction, true);
  return false;
}

void MemoryAccount::Must(std::size_t bytes) {
  const std::size_t before = held_.fetch_add(bytes, std::memory_order_relaxed);
  const std::int64_t more = Counted(before + bytes) - Counted(before);
  if (more != 0 && budget_ != nullptr) budget_->Add(this, more, true);
}

void MemoryAccount::Give(std::size_t bytes) {
  const std::size_t before = held_.fetch_sub(bytes, std::memory_order_relaxed);
  const std::int64_t less = Counted(before - bytes) - Counted(before);
  if (less != 0 && budget_ != nullptr) budget_->Add(this, less, true);
}

}  // namespace tfipu::serving::net
