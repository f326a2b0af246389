#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/executable/executable.h"

namespace tfipu {

std::size_t ElementSize(ElementType type) {
  switch (type) {
    case UINT8:
    case INT8:
    case BOOL:
      return 1;
    case INT16:
    case UINT16:
    case FLOAT16:
    case BFLOAT16:
      return 2;
    case FLOAT32:
    case INT32:
    case UINT32:
      return 4;
    case FLOAT64:
    case INT64:
    case UINT64:
    case COMPLEX64:
      return 8;
    case COMPLEX128:
      return 16;
    default:
      return 0;
  }
}

std::string ElementTypeName(ElementType type) {
  switch (type) {
    case FLOAT32:
      return "float32";
    case FLOAT64:
      return "float64";
    case INT32:
      return "int32";
    case UINT8:
      return "uint8";
    case INT16:
      return "int16";
    case INT8:
      return "int8";
    case COMPLEX64:
      return "complex64";
    case INT64:
      return "int64";
    case BOOL:
      return "bool";
    case BFLOAT16:
      return "bfloat16";
    case UINT16:
      return "uint16";
    case COMPLEX128:
      return "complex128";
    case FLOAT16:
      return "float16";
    case UINT32:
      return "uint32";
    case UINT64:
      return "uint64";
    default:
      return absl::StrCat("unknown type ", static_cast<int>(type));
  }
}

absl::StatusOr<std::size_t> TensorSize(const TensorSpec& spec) {
  std::uint64_t size = ElementSize(spec.type());
  if (size == 0) return absl::InvalidArgumentError(absl::StrCat("found ", ElementTypeName(spec.type())));
  bool empty = false;
  for (std::int64_t dim : spec.dims()) {
    if (dim < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("found dimension ", dim, " in ", ToString(spec), ", expected at least 0"));
    }
    empty |= dim == 0;
  }
  if (empty) return 0;
  for (std::int64_t dim : spec.dims()) {
    if (__builtin_mul_overflow(size, static_cast<std::uint64_t>(dim), &size) ||
        size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return absl::InvalidArgumentError(absl::StrCat(ToString(spec), " takes more than 2^63 - 1 bytes"));
    }
  }
  return size;
}

std::string ToString(const TensorSpec& spec) {
  return absl::StrCat(ElementTypeName(spec.type()), "[", absl::StrJoin(spec.dims(), ","), "]");
}

}  // namespace tfipu
