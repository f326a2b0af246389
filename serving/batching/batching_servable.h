// Runs requests of several callers together.
#ifndef SERVING_BATCHING_BATCHING_SERVABLE_H_
#define SERVING_BATCHING_BATCHING_SERVABLE_H_

#include <memory>

#include "serving/batching/batching_options.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {

// A servable that joins concurrent calls of one signature (with the same outputs, and input shapes that
// differ only in the first dimension, unless those are padded) along that dimension, runs `servable` once and
// gives each call its rows.
//
// There are no batch threads: a batch is run by the thread of one of its calls, or of one that waits behind
// it, and at most `num_batch_threads` do so at a time. A call that finds a free place and nothing to wait for
// runs at once and alone, as without batching.
//
// A signature is batched if the first dimension of all its inputs and outputs is open. When a batch fails, or
// an output turns out not to have the batch's rows, its calls are run one by one: a bad request fails only
// itself. Calls whose deadline passes in the queue get DeadlineExceeded.
//
// Immutable and thread-safe like any servable. One lock for each signature, held to queue and to dequeue.
std::unique_ptr<const Servable> MakeBatchingServable(std::unique_ptr<const Servable> servable,
                                                     const BatchingOptions& options);

}  // namespace tfipu::serving

#endif  // SERVING_BATCHING_BATCHING_SERVABLE_H_
