// One step of the main program, put together from rows of calls.
#ifndef CC_ENGINE_ENGINE_STEP_H_
#define CC_ENGINE_ENGINE_STEP_H_

#include <vector>

#include "absl/status/status.h"
#include "cc/base/buffer.h"
#include "cc/device/device.h"
#include "cc/engine/call_queue.h"
#include "cc/engine/feed_layout.h"

namespace tfipu {

// A run of a call's rows inside a step.
struct StepPart {
  PendingCall* call;
  std::int64_t call_row;
  std::int64_t step_row;
  std::int64_t rows;
};

// A feed whose rows all come from one call, and lie aligned, is used in place; others are packed into buffers
// of the step, which are made when they are first needed and kept. Used again and again; not thread-safe.
class EngineStep : public Step {
 public:
  // Makes room for as many parts.
  void Reserve(std::int64_t parts) { parts_.reserve(static_cast<std::size_t>(parts)); }
  // Empties the step.
  void Clear();
  // Adds rows of a call behind those the step has. Within what was reserved, it needs no memory.
  void Add(PendingCall* call, std::int64_t call_row, std::int64_t count);

  // Decides how many rows are computed, and points the feeds at them, packing where needed. Rows that are
  // left over repeat the last real one: unlike zeros, it cannot raise a floating-point exception that no
  // caller's row raises. A dummy step gets zeros. ResourceExhausted when there is no memory for the step's
  // own buffers.
  absl::Status Gather(const FeedLayout& layout);
  // Copies results that were packed to their calls.
  void Scatter(const FeedLayout& layout) const;

  const std::vector<StepPart>& parts() const { return parts_; }
  std::int64_t rows() const { return rows_; }

  SteadyTime entered;

 private:
  void GatherOrThrow(const FeedLayout& layout);

  std::vector<StepPart> parts_;
  std::int64_t rows_ = 0;
  std::vector<AlignedBuffer> packed_infeeds_;
  std::vector<AlignedBuffer> packed_outfeeds_;
};

}  // namespace tfipu

#endif  // CC_ENGINE_ENGINE_STEP_H_
