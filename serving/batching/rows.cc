#include "serving/batching/rows.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/util/overflow.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::tstring;

// Two requests that are long in different dimensions can ask for any amount of zeros.
constexpr std::int64_t kMaxFillBytes = std::int64_t{64} << 20;

// Copies the elements [from, from + count) of one tensor to `to` of another.
void CopyElements(const Tensor& source, std::int64_t from, Tensor* target, std::int64_t to,
                  std::int64_t count) {
  if (count == 0) return;
  if (source.dtype() == tensorflow::DT_STRING) {
    const auto* const texts = static_cast<const tstring*>(source.data());
    std::copy(texts + from, texts + from + count, static_cast<tstring*>(target->data()) + to);
    return;
  }
  const auto size = static_cast<std::int64_t>(tensorflow::DataTypeSize(source.dtype()));
  std::memcpy(static_cast<char*>(target->data()) + to * size,
              static_cast<const char*>(source.data()) + from * size, static_cast<std::size_t>(count * size));
}

std::int64_t RowElements(const TensorShape& shape) {
  std::int64_t elements = 1;
  for (int d = 1; d < shape.dims(); ++d) elements *= shape.dim_size(d);
  return elements;
}

std::int64_t MultiplyOrMinusOne(std::int64_t a, std::int64_t b) {
  return a < 0 ? -1 : tensorflow::MultiplyWithoutOverflow(a, b);
}

// Copies a row of one shape into the corner of a row of a larger one.
void CopyCorner(const Tensor& source, std::int64_t from, Tensor* target, std::int64_t to, int dimension) {
  const TensorShape& small = source.shape();
  const TensorShape& large = target->shape();
  if (dimension == small.dims() - 1) {
    CopyElements(source, from, target, to, small.dim_size(dimension));
    return;
  }
  std::int64_t small_step = 1, large_step = 1;
  for (int d = dimension + 1; d < small.dims(); ++d) {
    small_step *= small.dim_size(d);
    large_step *= large.dim_size(d);
  }
  for (std::int64_t i = 0; i < small.dim_size(dimension); ++i) {
    CopyCorner(source, from + i * small_step, target, to + i * large_step, dimension + 1);
  }
}

void FillWithZeros(Tensor* tensor) {
  if (tensor->dtype() == tensorflow::DT_STRING) return;  // strings are born empty
  std::memset(tensor->data(), 0, tensor->TotalBytes());
}

}  // namespace

bool SameRowShape(const Tensor& a, const Tensor& b) {
  if (a.dims() != b.dims()) return false;
  for (int d = 1; d < a.dims(); ++d) {
    if (a.dim_size(d) != b.dim_size(d)) return false;
  }
  return true;
}

absl::StatusOr<Tensor> JoinRows(const std::vector<const Tensor*>& parts, std::int64_t rows) {
  const Tensor& first = *parts.front();
  std::vector<std::int64_t> sizes(first.dims());
  std::int64_t part_rows = 0, part_elements = 0;
  bool padded = false;
  for (const Tensor* const part : parts) {
    if (part->dims() != first.dims()) {
      return absl::InvalidArgumentError(absl::StrCat("Requests with inputs of ", first.dims(), " and ",
                                                     part->dims(), " dimensions cannot be run together."));
    }
    padded |= !SameRowShape(*part, first);
    for (int d = 1; d < first.dims(); ++d) sizes[d] = std::max(sizes[d], part->dim_size(d));
    part_rows += part->dim_size(0);
    part_elements += part->NumElements();
  }
  std::int64_t row = 1;
  for (int d = 1; d < first.dims(); ++d) row = MultiplyOrMinusOne(row, sizes[d]);
  if (padded) {
    const std::int64_t filled = MultiplyOrMinusOne(row, part_rows);
    const std::int64_t most =
        kMaxFillBytes / (first.dtype() == tensorflow::DT_STRING ? static_cast<std::int64_t>(sizeof(tstring))
                                                                : tensorflow::DataTypeSize(first.dtype()));
    if (filled < 0 || filled - part_elements > most) {
      return absl::ResourceExhaustedError(
          absl::StrCat("Requests of too different shapes are not run together: at most ", most,
                       " elements are filled in."));
    }
  }
  sizes[0] = rows;
  TensorShape shape;
  TFIPU_RETURN_IF_ERROR(TensorShape::BuildTensorShape(sizes, &shape));
  Tensor joined(first.dtype(), shape);
  if (!joined.IsInitialized()) {
    return absl::ResourceExhaustedError(absl::StrCat("No memory for a batch of ", rows, " rows."));
  }
  if (padded) FillWithZeros(&joined);
  std::int64_t at = 0;
  for (const Tensor* const part : parts) {
    const std::int64_t count = part->dim_size(0);
    if (padded && shape.dims() > 1) {
      const std::int64_t part_row = RowElements(part->shape());
      for (std::int64_t i = 0; i < count; ++i) CopyCorner(*part, i * part_row, &joined, (at + i) * row, 1);
    } else {
      CopyElements(*part, 0, &joined, at * row, count * row);
    }
    at += count;
  }
  for (; at < rows; ++at) CopyElements(joined, 0, &joined, at * row, row);
  return joined;
}

Tensor CopyRows(const Tensor& tensor, std::int64_t begin, std::int64_t count) {
  TensorShape shape = tensor.shape();
  shape.set_dim(0, count);
  Tensor copy(tensor.dtype(), shape);
  const std::int64_t row = RowElements(shape);
  CopyElements(tensor, begin * row, &copy, 0, count * row);
  return copy;
}

}  // namespace tfipu::serving
