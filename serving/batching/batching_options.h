// How requests of several clients are run together.
#ifndef SERVING_BATCHING_BATCHING_OPTIONS_H_
#define SERVING_BATCHING_BATCHING_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "serving/config.pb.h"

namespace tfipu::serving {

// Of one version of a model; each version has its own queues and limits. The names are BatchingParameters'
// fields, the defaults those of TensorFlow Serving.
struct BatchingOptions {
  // Rows that a request may have and that are run together.
  std::int64_t max_batch_size = 1000;
  // How long a request waits for others when it could be run.
  absl::Duration batch_timeout = absl::ZeroDuration();
  // Full batches that may wait; a request above is refused with Unavailable.
  std::int64_t max_enqueued_batches = 10;
  // Batches run at the same time. 0: one for each core.
  std::int64_t num_batch_threads = 0;
  // Batches are padded to the next of these sizes, by repeating a row; empty: not padded.
  std::vector<std::int64_t> allowed_batch_sizes;
  // Requests whose inputs differ in other dimensions than the first are filled up with zeros and run
  // together; otherwise only equal ones are.
  bool pad_variable_length_inputs = false;
  // Requests with more rows than max_execution_batch_size are run in parts, those above max_batch_size too;
  // otherwise the latter are refused.
  bool enable_large_batch_splitting = false;
  // 0: max_batch_size.
  std::int64_t max_execution_batch_size = 0;

  // Rows in one run.
  std::int64_t execution_limit() const {
    return enable_large_batch_splitting && max_execution_batch_size > 0 ? max_execution_batch_size
                                                                        : max_batch_size;
  }
};

// InvalidArgument names the field, what was found and what is expected. thread_pool_name is of no
// consequence.
absl::StatusOr<BatchingOptions> BatchingOptionsFrom(
    const tensorflow::serving::BatchingParameters& parameters);

// `common` with what `<path>/batching_params.pbtxt` sets, if there is such a file, in the place of its own
// fields.
absl::StatusOr<tensorflow::serving::BatchingParameters> ModelBatchingParameters(
    const tensorflow::serving::BatchingParameters& common, const std::string& path);

}  // namespace tfipu::serving

#endif  // SERVING_BATCHING_BATCHING_OPTIONS_H_
