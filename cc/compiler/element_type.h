// Element types of XLA and of executables.
#ifndef CC_COMPILER_ELEMENT_TYPE_H_
#define CC_COMPILER_ELEMENT_TYPE_H_

#include "cc/executable/executable.pb.h"
#include "xla/shape.h"

namespace tfipu {

// INVALID for the types that an executable's feeds cannot have.
ElementType FromXlaType(xla::PrimitiveType type);

// Type and dimensions of an array.
TensorSpec FromXlaShape(const xla::Shape& shape);

}  // namespace tfipu

#endif  // CC_COMPILER_ELEMENT_TYPE_H_
