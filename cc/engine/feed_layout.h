// How the feeds of an executable divide into rows.
#ifndef CC_ENGINE_FEED_LAYOUT_H_
#define CC_ENGINE_FEED_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

struct Call;

// With row batching a step has `batch` rows, of which a call brings any number. Without, the whole of a step
// is one row, and every call brings one. Immutable.
struct FeedLayout {
  bool row_batching = false;
  std::int64_t batch = 1;
  std::vector<std::int64_t> step_rows;  // that a step can compute, in order; the last is `batch`
  std::vector<std::size_t> infeed_row_bytes;
  std::vector<std::size_t> outfeed_row_bytes;
  std::vector<std::string> infeed_names;  // for messages
  std::vector<std::string> outfeed_names;

  // InvalidArgument when the executable says that its feeds hold independent rows, but they do not have one
  // leading dimension of at least 1, or when a shape is not valid.
  static absl::StatusOr<FeedLayout> Of(const ExecutableHeader& header);

  // Rows that a step computes which has `rows` of calls; a dummy step, which has none, computes all.
  std::int64_t StepRows(std::int64_t rows) const { return step_rows[StepRowsIndex(rows)]; }
  // Their position in step_rows.
  std::size_t StepRowsIndex(std::int64_t rows) const {
    std::size_t index = 0;
    while (index + 1 < step_rows.size() && (rows <= 0 || step_rows[index] < rows)) ++index;
    return index;
  }

  // Rows of the call: its own count with row batching, else 1.
  std::int64_t RowsOf(const Call& call) const;

  // InvalidArgument when the call's buffers are not as many, and as large, as its rows need.
  absl::Status Check(const Call& call) const;
};

}  // namespace tfipu

#endif  // CC_ENGINE_FEED_LAYOUT_H_
