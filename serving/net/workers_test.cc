#include "serving/net/workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>

namespace tfipu::serving::net {
namespace {

class Parts final : public Work {
 public:
  Parts(char name, int parts, std::mutex* mutex, std::string* order)
      : name_(name), parts_(parts), mutex_(mutex), order_(order) {}
  bool DoPart() override {
    std::lock_guard<std::mutex> lock(*mutex_);
    order_->push_back(name_);
    return --parts_ > 0;
  }

 private:
  const char name_;
  int parts_;
  std::mutex* const mutex_;
  std::string* const order_;
};

TEST(WorkersTest, WhatIsLargeLetsWhatIsSmallPass) {
  std::mutex mutex;
  std::string order;
  Parts large('l', 100, &mutex, &order), small('s', 2, &mutex, &order);
  {
    Workers workers(1);
    std::lock_guard<std::mutex> lock(mutex);  // both wait before the first part is done
    EXPECT_TRUE(workers.Do(&large));
    EXPECT_TRUE(workers.Do(&small));
  }
  EXPECT_EQ(order.size(), 102);
  EXPECT_LT(order.rfind('s'), 6);
}

}  // namespace
}  // namespace tfipu::serving::net
