// A request's slices as a protobuf input stream.
#ifndef SERVING_API_SLICE_STREAM_H_
#define SERVING_API_SLICE_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "google/protobuf/io/zero_copy_stream.h"
#include "serving/api/rpc.h"

namespace tfipu::serving {

// Reads slices in place; they must outlive it.
class SliceStream final : public google::protobuf::io::ZeroCopyInputStream {
 public:
  explicit SliceStream(const std::vector<Slice>& slices) : slices_(slices) {}

  bool Next(const void** data, int* size) override {
    while (next_ < slices_.size() && offset_ == slices_[next_].size) {
      ++next_;
      offset_ = 0;
    }
    if (next_ == slices_.size()) return false;
    const std::size_t left = slices_[next_].size - offset_;
    const int given = static_cast<int>(left < kMaxRun ? left : kMaxRun);
    *data = static_cast<const char*>(slices_[next_].data) + offset_;
    *size = given;
    offset_ += given;
    position_ += given;
    return true;
  }
  void BackUp(int count) override {
    offset_ -= count;
    position_ -= count;
  }
  bool Skip(int count) override {
    const void* data;
    int size;
    while (count > 0) {
      if (!Next(&data, &size)) return false;
      if (size > count) BackUp(size - count);
      count -= size < count ? size : count;
    }
    return true;
  }
  std::int64_t ByteCount() const override { return position_; }

 private:
  static constexpr std::size_t kMaxRun = 1 << 30;

  const std::vector<Slice>& slices_;
  std::size_t next_ = 0;
  std::size_t offset_ = 0;
  std::int64_t position_ = 0;
};

}  // namespace tfipu::serving

#endif  // SERVING_API_SLICE_STREAM_H_
