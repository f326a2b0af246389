#include "serving/batching/rows.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::tstring;

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
  TensorShape shape = parts.front()->shape();
  bool padded = false;
  for (const Tensor* const part : parts) {
    if (part->dims() != shape.dims()) {
      return absl::InvalidArgumentError(absl::StrCat("Requests with inputs of ", shape.dims(), " and ",
                                                     part->dims(), " dimensions cannot be run together."));
    }
    padded |= !SameRowShape(*part, *parts.front());
    for (int d = 1; d < shape.dims(); ++d) shape.set_dim(d, std::max(shape.dim_size(d), part->dim_size(d)));
  }
  shape.set_dim(0, rows);
  Tensor joined(parts.front()->dtype(), shape);
  const std::int64_t row = RowElements(shape);
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
