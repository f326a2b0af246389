// How long calls of a signature take, by their size.
#ifndef SERVING_SERVABLES_ROW_TIMES_H_
#define SERVING_SERVABLES_ROW_TIMES_H_

#include <algorithm>
#include <array>
#include <vector>

#include "cc/base/run_times.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {

// For each power of two of the first input's leading dimension: a row may be short where a thousand are not.
// Thread-safe.
class RowTimes {
 public:
  RecentTime& Of(const std::vector<tensorflow::Tensor>& inputs) {
    std::size_t size = 0;
    if (!inputs.empty() && inputs[0].dims() > 0) {
      for (std::int64_t rows = inputs[0].dim_size(0); rows > 1; rows /= 2) ++size;
    }
    return times_[std::min(size, times_.size() - 1)];
  }

 private:
  std::array<RecentTime, 20> times_;
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_ROW_TIMES_H_
