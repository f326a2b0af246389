#include "cc/compiler/element_type.h"

namespace tfipu {

ElementType FromXlaType(xla::PrimitiveType type) {
  switch (type) {
    case xla::F32:
      return FLOAT32;
    case xla::F64:
      return FLOAT64;
    case xla::S32:
      return INT32;
    case xla::U8:
      return UINT8;
    case xla::S16:
      return INT16;
    case xla::S8:
      return INT8;
    case xla::C64:
      return COMPLEX64;
    case xla::S64:
      return INT64;
    case xla::PRED:
      return BOOL;
    case xla::BF16:
      return BFLOAT16;
    case xla::U16:
      return UINT16;
    case xla::C128:
      return COMPLEX128;
    case xla::F16:
      return FLOAT16;
    case xla::U32:
      return UINT32;
    case xla::U64:
      return UINT64;
    default:
      return INVALID;
  }
}

TensorSpec FromXlaShape(const xla::Shape& shape) {
  TensorSpec spec;
  spec.set_type(FromXlaType(shape.element_type()));
  for (std::int64_t dim : shape.dimensions()) spec.add_dims(dim);
  return spec;
}

}  // namespace tfipu
