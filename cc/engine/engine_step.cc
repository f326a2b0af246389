#include "cc/engine/engine_step.h"

#include <cstring>
#include <new>

namespace tfipu {
namespace {

bool UsableInPlace(const std::byte* data) { return data != nullptr && IsAligned(data); }

// The step's own buffer for a feed.
MutableBuffer Packed(std::vector<AlignedBuffer>& buffers, std::size_t count, std::size_t index,
                     std::size_t size) {
  if (buffers.size() < count) buffers.resize(count);
  if (buffers[index].data() == nullptr) buffers[index] = AlignedBuffer(size);
  return buffers[index].span();
}

void Copy(std::byte* to, const std::byte* from, std::size_t size) {
  if (size > 0) std::memcpy(to, from, size);
}

}  // namespace

void EngineStep::Clear() {
  parts_.clear();
  rows_ = 0;
  dummy = false;
  computed_rows = 0;
}

void EngineStep::Add(PendingCall* call, std::int64_t call_row, std::int64_t count) {
  parts_.push_back({call, call_row, rows_, count});
  rows_ += count;
}

absl::Status EngineStep::Gather(const FeedLayout& layout) {
  try {
    GatherOrThrow(layout);
    return absl::OkStatus();
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("There is no memory for the buffers of a step.");
  }
}

void EngineStep::GatherOrThrow(const FeedLayout& layout) {
  computed_rows = layout.StepRows(rows_);
  // A single part fills the step exactly, or there is something to pad.
  const bool whole = parts_.size() == 1 && parts_[0].rows == computed_rows;
  infeeds.resize(layout.infeed_row_bytes.size());
  for (std::size_t i = 0; i < infeeds.size(); ++i) {
    const std::size_t row_bytes = layout.infeed_row_bytes[i];
    if (whole) {
      const std::byte* data = parts_[0].call->call.infeeds[i].data() + parts_[0].call_row * row_bytes;
      if (UsableInPlace(data)) {
        infeeds[i] = {data, row_bytes * computed_rows};
        continue;
      }
    }
    const MutableBuffer packed = Packed(packed_infeeds_, infeeds.size(), i, row_bytes * layout.batch)
                                     .subspan(0, row_bytes * computed_rows);
    for (const StepPart& part : parts_) {
      Copy(packed.data() + part.step_row * row_bytes,
           part.call->call.infeeds[i].data() + part.call_row * row_bytes, part.rows * row_bytes);
    }
    if (rows_ == 0) {
      std::memset(packed.data(), 0, packed.size());
    } else {
      const std::byte* last = packed.data() + (rows_ - 1) * row_bytes;
      for (std::int64_t row = rows_; row < computed_rows; ++row)
        Copy(packed.data() + row * row_bytes, last, row_bytes);
    }
    infeeds[i] = packed;
  }
  outfeeds.resize(layout.outfeed_row_bytes.size());
  for (std::size_t i = 0; i < outfeeds.size(); ++i) {
    const std::size_t row_bytes = layout.outfeed_row_bytes[i];
    if (whole) {
      std::byte* data = parts_[0].call->call.outfeeds[i].data() + parts_[0].call_row * row_bytes;
      if (UsableInPlace(data)) {
        outfeeds[i] = {data, row_bytes * computed_rows};
        continue;
      }
    }
    outfeeds[i] = Packed(packed_outfeeds_, outfeeds.size(), i, row_bytes * layout.batch)
                      .subspan(0, row_bytes * computed_rows);
  }
}

void EngineStep::Scatter(const FeedLayout& layout) const {
  for (std::size_t i = 0; i < outfeeds.size(); ++i) {
    const std::size_t row_bytes = layout.outfeed_row_bytes[i];
    for (const StepPart& part : parts_) {
      std::byte* to = part.call->call.outfeeds[i].data() + part.call_row * row_bytes;
      const std::byte* from = outfeeds[i].data() + part.step_row * row_bytes;
      if (to != from) Copy(to, from, part.rows * row_bytes);
    }
  }
}

}  // namespace tfipu
