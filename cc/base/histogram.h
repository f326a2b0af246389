// A histogram that many threads may add to at next to no cost.
#ifndef CC_BASE_HISTOGRAM_H_
#define CC_BASE_HISTOGRAM_H_

#include <array>
#include <atomic>
#include <cstdint>

namespace tfipu {

// Counts non-negative values in buckets that grow by powers of two, four to each power, so that a quantile is
// off by at most an eighth. Add() is lock-free and takes a few nanoseconds. Thread-safe.
class Histogram {
 public:
  static constexpr int kBuckets = 4 * 40;

  struct Snapshot {
    std::array<std::uint64_t, kBuckets> counts{};
    std::uint64_t count = 0;
    double sum = 0;
    std::uint64_t max = 0;

    // The value below which the share `q` (0 to 1) of all values lies; 0 when there are none.
    double Quantile(double q) const;
    double Mean() const { return count == 0 ? 0 : sum / static_cast<double>(count); }
  };

  void Add(std::uint64_t value);
  Snapshot Read() const;

  // The bucket of a value, and the smallest value that lies in a bucket.
  static int BucketOf(std::uint64_t value);
  static std::uint64_t LowerBound(int bucket);

 private:
  std::array<std::atomic<std::uint64_t>, kBuckets> counts_{};
  std::atomic<std::uint64_t> sum_{0};
  std::atomic<std::uint64_t> max_{0};
};

}  // namespace tfipu

#endif  // CC_BASE_HISTOGRAM_H_
