#include "cc/engine/feed_layout.h"

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/engine/engine.h"

namespace tfipu {
namespace {

absl::Status AddFeeds(const google::protobuf::RepeatedPtrField<TensorSpec>& feeds, const char* kind,
                      FeedLayout& layout, std::vector<std::size_t>& row_bytes,
                      std::vector<std::string>& names) {
  for (const TensorSpec& feed : feeds) {
    TFIPU_ASSIGN_OR_RETURN(const std::size_t size, TensorSize(feed));
    if (layout.row_batching && (feed.dims().empty() || feed.dims(0) != layout.batch)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "The executable batches rows, for which every feed needs the same leading dimension, but ", kind,
          " '", feed.name(), "' is ", ToString(feed), " where ", layout.batch,
          " rows are expected. Export it again, with dynamic_batch only if all its feeds have rows."));
    }
    row_bytes.push_back(size / layout.batch);
    names.push_back(feed.name());
  }
  return absl::OkStatus();
}

template <typename Buffer>
absl::Status CheckBuffers(const std::vector<Buffer>& buffers, const std::vector<std::size_t>& row_bytes,
                          const std::vector<std::string>& names, std::int64_t rows, const char* kind) {
  if (buffers.size() != row_bytes.size()) {
    return absl::InvalidArgumentError(absl::StrCat("The executable has ", row_bytes.size(), " ", kind,
                                                   "s, but the call brings ", buffers.size(), "."));
  }
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    // Divides rather than multiplies: a count of rows from outside must not overflow.
    const std::size_t size = buffers[i].size();
    const bool fits = row_bytes[i] == 0 ? size == 0 : size % row_bytes[i] == 0 && size / row_bytes[i] == rows;
    if (!fits) {
      return absl::InvalidArgumentError(absl::StrCat("The buffer of ", kind, " ", i, " ('", names[i],
                                                     "') has ", size, " bytes. Expected ", rows, " x ",
                                                     row_bytes[i], " bytes."));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<FeedLayout> FeedLayout::Of(const ExecutableHeader& header) {
  FeedLayout layout;
  layout.row_batching = header.dynamic_batch();
  if (layout.row_batching) {
    const TensorSpec* first = !header.infeeds().empty()    ? &header.infeeds(0)
                              : !header.outfeeds().empty() ? &header.outfeeds(0)
                                                           : nullptr;
    if (first == nullptr || first->dims().empty() || first->dims(0) < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "The executable batches rows, for which its first feed needs a leading dimension of at least 1, "
          "but it has ",
          first == nullptr ? "no feeds" : ToString(*first), "."));
    }
    layout.batch = first->dims(0);
    for (const RowVariant& variant : header.row_variants()) layout.step_rows.push_back(variant.rows());
  }
  layout.step_rows.push_back(layout.batch);
  TFIPU_RETURN_IF_ERROR(
      AddFeeds(header.infeeds(), "infeed", layout, layout.infeed_row_bytes, layout.infeed_names));
  TFIPU_RETURN_IF_ERROR(
      AddFeeds(header.outfeeds(), "outfeed", layout, layout.outfeed_row_bytes, layout.outfeed_names));
  return layout;
}

std::int64_t FeedLayout::RowsOf(const Call& call) const { return row_batching ? call.rows : 1; }

absl::Status FeedLayout::Check(const Call& call) const {
  const std::int64_t rows = RowsOf(call);
  if (rows < 0) {
    return absl::InvalidArgumentError(absl::StrCat("A call has ", rows, " rows. Expected 0 or more."));
  }
  TFIPU_RETURN_IF_ERROR(CheckBuffers(call.infeeds, infeed_row_bytes, infeed_names, rows, "infeed"));
  return CheckBuffers(call.outfeeds, outfeed_row_bytes, outfeed_names, rows, "outfeed");
}

}  // namespace tfipu
