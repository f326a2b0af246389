#include "serving/api/tensor_proto.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {
namespace {

using tensorflow::DataType;

// Elements that the *_val fields of a proto give.
std::int64_t GivenElements(const tensorflow::TensorProto& proto) {
  switch (proto.dtype()) {
    case tensorflow::DT_FLOAT:
      return proto.float_val_size();
    case tensorflow::DT_DOUBLE:
      return proto.double_val_size();
    case tensorflow::DT_STRING:
      return proto.string_val_size();
    case tensorflow::DT_INT64:
      return proto.int64_val_size();
    case tensorflow::DT_UINT64:
      return proto.uint64_val_size();
    case tensorflow::DT_UINT32:
      return proto.uint32_val_size();
    case tensorflow::DT_BOOL:
      return proto.bool_val_size();
    case tensorflow::DT_HALF:
    case tensorflow::DT_BFLOAT16:
      return proto.half_val_size();
    case tensorflow::DT_COMPLEX64:
      return proto.scomplex_val_size() / 2;
    case tensorflow::DT_COMPLEX128:
      return proto.dcomplex_val_size() / 2;
    default:
      return proto.int_val_size();
  }
}

}  // namespace

bool IsWireType(DataType dtype) {
  switch (dtype) {
    case tensorflow::DT_FLOAT:
    case tensorflow::DT_DOUBLE:
    case tensorflow::DT_INT32:
    case tensorflow::DT_UINT8:
    case tensorflow::DT_INT16:
    case tensorflow::DT_INT8:
    case tensorflow::DT_STRING:
    case tensorflow::DT_COMPLEX64:
    case tensorflow::DT_INT64:
    case tensorflow::DT_BOOL:
    case tensorflow::DT_QINT8:
    case tensorflow::DT_QUINT8:
    case tensorflow::DT_QINT32:
    case tensorflow::DT_BFLOAT16:
    case tensorflow::DT_QINT16:
    case tensorflow::DT_QUINT16:
    case tensorflow::DT_UINT16:
    case tensorflow::DT_COMPLEX128:
    case tensorflow::DT_HALF:
    case tensorflow::DT_UINT32:
    case tensorflow::DT_UINT64:
      return true;
    default:
      return false;
  }
}

absl::Status ShapeFromProto(const tensorflow::TensorShapeProto& proto, tensorflow::TensorShape* shape) {
  if (proto.unknown_rank()) {
    return absl::InvalidArgumentError("A tensor's shape has unknown rank; all dimensions must be given");
  }
  return tensorflow::TensorShape::BuildTensorShape(proto, shape);
}

void NormalizeBools(tensorflow::Tensor* tensor) {
  auto* bytes = static_cast<std::uint8_t*>(tensor->data());
  for (std::size_t i = 0; i < tensor->TotalBytes(); ++i) bytes[i] = bytes[i] != 0;
}

absl::StatusOr<tensorflow::Tensor> TensorFromProto(const tensorflow::TensorProto& proto,
                                                   std::size_t max_expanded_bytes) {
  const DataType dtype = proto.dtype();
  if (!IsWireType(dtype)) {
    return absl::InvalidArgumentError(absl::StrCat("A tensor of type ",
                                                   tensorflow::DataType_IsValid(dtype)
                                                       ? tensorflow::DataType_Name(dtype)
                                                       : absl::StrCat(static_cast<int>(dtype)),
                                                   " cannot be sent"));
  }
  tensorflow::TensorShape shape;
  if (absl::Status status = ShapeFromProto(proto.tensor_shape(), &shape); !status.ok()) return status;

  const std::int64_t elements = shape.num_elements();
  const std::int64_t content = static_cast<std::int64_t>(proto.tensor_content().size());
  const std::int64_t element_size =
      dtype == tensorflow::DT_STRING ? sizeof(tensorflow::tstring) : tensorflow::DataTypeSize(dtype);
  if (content > 0) {
    // A string takes a byte of its length at least.
    const bool fits = dtype == tensorflow::DT_STRING
                          ? elements <= content
                          : content % element_size == 0 && content / element_size == elements;
    if (!fits) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor_content has ", content, " bytes, which do not fit a tensor of type ",
                       tensorflow::DataTypeString(dtype), " and shape ", shape.DebugString()));
    }
  } else if (elements > GivenElements(proto) &&
             static_cast<std::uint64_t>(elements) > max_expanded_bytes / element_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "A tensor of type ", tensorflow::DataTypeString(dtype), " and shape ", shape.DebugString(),
        " has only ", GivenElements(proto), " values, and repeating the last one would take more than ",
        max_expanded_bytes, " bytes"));
  }
  tensorflow::Tensor tensor;
  if (!tensor.FromProto(proto)) {
    return absl::InvalidArgumentError(absl::StrCat("The values of a tensor do not fit its type ",
                                                   tensorflow::DataTypeString(dtype), " and shape ",
                                                   shape.DebugString()));
  }
  if (dtype == tensorflow::DT_BOOL && content > 0) NormalizeBools(&tensor);
  return tensor;
}

}  // namespace tfipu::serving
