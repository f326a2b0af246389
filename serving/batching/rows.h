// Joining and dividing tensors along their first dimension.
#ifndef SERVING_BATCHING_ROWS_H_
#define SERVING_BATCHING_ROWS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {

// Whether the shapes are equal but for the first dimension.
bool SameRowShape(const tensorflow::Tensor& a, const tensorflow::Tensor& b);

// The parts under each other, then copies of the first part's first row until there are `rows`. Parts have at
// least one dimension and the same type. When row shapes differ, rows are filled up with zeros (empty
// strings) to the largest size of each dimension; InvalidArgument when the numbers of dimensions differ,
// ResourceExhausted when more than 64 MB would have to be filled up, or there is no memory.
absl::StatusOr<tensorflow::Tensor> JoinRows(const std::vector<const tensorflow::Tensor*>& parts,
                                            std::int64_t rows);

// A copy of rows [begin, begin + count).
tensorflow::Tensor CopyRows(const tensorflow::Tensor& tensor, std::int64_t begin, std::int64_t count);

}  // namespace tfipu::serving

#endif  // SERVING_BATCHING_ROWS_H_
