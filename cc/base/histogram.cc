#include "cc/base/histogram.h"

#include <algorithm>
#include <cmath>

namespace tfipu {

// Values 0 to 3 have a bucket each; from then on each power of two has four: bucket = 4 * (bits - 2) + next
// two bits.
int Histogram::BucketOf(std::uint64_t value) {
  if (value < 4) return static_cast<int>(value);
  const int top = 63 - __builtin_clzll(value);
  const int bucket = 4 * (top - 1) + static_cast<int>((value >> (top - 2)) & 3);
  return std::min(bucket, kBuckets - 1);
}

std::uint64_t Histogram::LowerBound(int bucket) {
  if (bucket < 4) return static_cast<std::uint64_t>(std::max(bucket, 0));
  const int top = bucket / 4 + 1;
  return static_cast<std::uint64_t>(4 + bucket % 4) << (top - 2);
}

void Histogram::Add(std::uint64_t value) {
  counts_[BucketOf(value)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
  std::uint64_t max = max_.load(std::memory_order_relaxed);
  while (value > max && !max_.compare_exchange_weak(max, value, std::memory_order_relaxed)) {
  }
}

Histogram::Snapshot Histogram::Read() const {
  Snapshot snapshot;
  for (int i = 0; i < kBuckets; ++i) {
    snapshot.counts[i] = counts_[i].load(std::memory_order_relaxed);
    snapshot.count += snapshot.counts[i];
  }
  snapshot.sum = static_cast<double>(sum_.load(std::memory_order_relaxed));
  snapshot.max = max_.load(std::memory_order_relaxed);
  return snapshot;
}

double Histogram::Snapshot::Quantile(double q) const {
  if (count == 0) return 0;
  const double rank = std::clamp(q, 0.0, 1.0) * static_cast<double>(count);
  double before = 0;
  for (int i = 0; i < kBuckets; ++i) {
    const double here = static_cast<double>(counts[i]);
    if (here > 0 && before + here >= rank) {
      // Integers spread evenly over the bucket; its last one is below the next bucket and never above the
      // maximum.
      const double low = static_cast<double>(LowerBound(i));
      const double high =
          i + 1 < kBuckets ? static_cast<double>(LowerBound(i + 1)) - 1 : static_cast<double>(max);
      return std::min(low + (high - low) * std::max(0.0, (rank - before) / here), static_cast<double>(max));
    }
    before += here;
  }
  return static_cast<double>(max);
}

}  // namespace tfipu
