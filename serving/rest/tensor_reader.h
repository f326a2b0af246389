// One input tensor, read from JSON values.
#ifndef SERVING_REST_TENSOR_READER_H_
#define SERVING_REST_TENSOR_READER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "serving/json/reader.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {

// Collects the elements of nested arrays of one type, in order, in the memory that becomes the tensor's. All
// values that are appended have one shape, that of the first.
class TensorReader {
 public:
  // Unimplemented for types that JSON has no form for.
  static absl::StatusOr<std::unique_ptr<TensorReader>> Create(tensorflow::DataType dtype);
  virtual ~TensorReader() = default;

  // Reads one value: a scalar or a rectangular array of arrays. On failure the reader's status says why.
  virtual bool Append(json::Reader* reader) = 0;

  std::int64_t appended() const { return appended_; }

  // The tensor, of shape [appended, ...] when `rows`, else of the shape of the only value. Ends this object's
  // use.
  virtual absl::Status Finish(bool rows, tensorflow::Tensor* tensor) = 0;

 protected:
  // The shape of one value, as far as it is known.
  static constexpr std::int64_t kUnknown = -1;
  int rank_ = -1;
  std::vector<std::int64_t> dims_;
  std::int64_t appended_ = 0;
};

// The bytes of a JSON string, or of {"b64": "..."}. The view is valid as the reader's strings are, or until
// `decoded` changes.
bool ReadBytes(json::Reader* reader, std::string* decoded, absl::string_view* value);

}  // namespace tfipu::serving

#endif  // SERVING_REST_TENSOR_READER_H_
