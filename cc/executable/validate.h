// Whether the fields of a header fit each other.
#ifndef CC_EXECUTABLE_VALIDATE_H_
#define CC_EXECUTABLE_VALIDATE_H_

#include "absl/status/status.h"
#include "cc/executable/executable.pb.h"

namespace tfipu {

// What a header may ask for. Far above what a model needs, and low enough that no sum of them overflows.
inline constexpr std::uint32_t kMaxIpus = 65536;
inline constexpr int kMaxStages = 4096;
inline constexpr std::uint32_t kMaxReplicas = 4096;
inline constexpr int kMaxRank = 254;
inline constexpr std::uint64_t kMaxBytes = std::uint64_t{1}
                                           << 40;  // of a tensor, or of a stage's scratch memory
inline constexpr std::uint64_t kMaxMicroseconds = 1'000'000'000'000'000;  // 31 years

// OK, or InvalidArgument that names the first field that is wrong, what it holds and what was expected. The
// writer and the reader both call it, so who holds an Executable may rely on:
//   - at least one stage, one device, one iteration; every enum has a known value
//   - every TensorSpec has a known element type, no negative dimension and at most kMaxBytes
//   - infeeds, outfeeds and start-up inputs have names, unique among their like
//   - every ValueRef names an existing value; a STAGE_RESULT is of an earlier stage; `stage` is 0 for other
//   sources
//   - every stage has code, every weight a blob of its spec's size
//   - carried values and outfeeds have the type and shape of the values they refer to
//   - with dynamic_batch, all feeds have the same leading dimension, not 0
//   - the target is of a known kind; every device index is below target.num_ipus
// It does not look at where blobs lie: see Layout() in format.h.
absl::Status Validate(const ExecutableHeader& header);

}  // namespace tfipu

#endif  // CC_EXECUTABLE_VALIDATE_H_
