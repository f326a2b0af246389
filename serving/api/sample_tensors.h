// Tensors of every type that can be sent, for tests.
#ifndef SERVING_API_SAMPLE_TENSORS_H_
#define SERVING_API_SAMPLE_TENSORS_H_

#include <string>

#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {

// A tensor whose bytes are all different small values.
inline tensorflow::Tensor Sample(tensorflow::DataType dtype, const tensorflow::TensorShape& shape) {
  tensorflow::Tensor tensor(dtype, shape);
  if (dtype == tensorflow::DT_STRING) {
    for (int i = 0; i < tensor.NumElements(); ++i)
      tensor.flat<tensorflow::tstring>()(i) = std::string(i * 7, 'a' + i);
    return tensor;
  }
  auto* bytes = static_cast<unsigned char*>(tensor.data());
  for (std::size_t i = 0; i < tensor.TotalBytes(); ++i) {
    bytes[i] = dtype == tensorflow::DT_BOOL ? i % 2 : (i * 37 + 130) % 251;
  }
  return tensor;
}

constexpr tensorflow::DataType kTypes[] = {
    tensorflow::DT_FLOAT,  tensorflow::DT_DOUBLE, tensorflow::DT_INT32,      tensorflow::DT_UINT8,
    tensorflow::DT_INT16,  tensorflow::DT_INT8,   tensorflow::DT_STRING,     tensorflow::DT_COMPLEX64,
    tensorflow::DT_INT64,  tensorflow::DT_BOOL,   tensorflow::DT_BFLOAT16,   tensorflow::DT_UINT16,
    tensorflow::DT_UINT32, tensorflow::DT_UINT64, tensorflow::DT_COMPLEX128, tensorflow::DT_HALF,
    tensorflow::DT_QINT8,  tensorflow::DT_QUINT8, tensorflow::DT_QINT16,     tensorflow::DT_QUINT16,
    tensorflow::DT_QINT32};

}  // namespace tfipu::serving

#endif  // SERVING_API_SAMPLE_TENSORS_H_
