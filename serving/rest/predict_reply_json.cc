#include "serving/rest/predict_reply_json.h"

#include "absl/container/inlined_vector.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "serving/json/writer.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;

// Writes the elements from `data` on as arrays of the dimensions of `shape` from `from_dim` on.
template <class T, class Write>
void WriteNested(json::Writer* writer, const T* data, const tensorflow::TensorShape& shape, int from_dim,
                 Write write) {
  const int rank = shape.dims();
  if (from_dim == rank) {
    write(*data);
    return;
  }
  std::int64_t index[tensorflow::TensorShape::MaxDimensions()];
  const std::int64_t width = shape.dim_size(rank - 1);
  int dim = from_dim;  // of the array that is open or to be opened
  index[dim] = 0;
  writer->Raw("[");
  while (true) {
    if (dim == rank - 1) {
      for (std::int64_t i = 0; i < width; ++i) {
        if (i != 0) writer->Raw(", ");
        write(*data++);
      }
      writer->Raw("]");
    } else if (index[dim] < shape.dim_size(dim)) {
      writer->Raw(index[dim]++ == 0 ? "[" : ", [");
      index[++dim] = 0;
      continue;
    } else {
      writer->Raw("]");
    }
    if (dim-- == from_dim) return;
  }
}

// The values of one output: all of them, or row by row.
class OutputWriter {
 public:
  OutputWriter(const SignatureTensor& output, const Tensor& tensor, json::Writer* writer)
      : tensor_(tensor), writer_(writer), bytes_(absl::EndsWith(output.alias, "_bytes")) {}

  static bool Supports(tensorflow::DataType dtype) {
    switch (dtype) {
      case tensorflow::DT_FLOAT:
      case tensorflow::DT_DOUBLE:
      case tensorflow::DT_HALF:
      case tensorflow::DT_BFLOAT16:
      case tensorflow::DT_INT8:
      case tensorflow::DT_INT16:
      case tensorflow::DT_INT32:
      case tensorflow::DT_INT64:
      case tensorflow::DT_UINT8:
      case tensorflow::DT_UINT16:
      case tensorflow::DT_UINT32:
      case tensorflow::DT_UINT64:
      case tensorflow::DT_BOOL:
      case tensorflow::DT_STRING:
        return true;
      default:
        return false;
    }
  }

  void All() { Write(0, 0); }
  void Row(std::int64_t row) { Write(row, 1); }

 private:
  void Write(std::int64_t row, int from_dim) {
    switch (tensor_.dtype()) {
      case tensorflow::DT_FLOAT:
        return Typed<float>(row, from_dim, [this](float v) { writer_->Float(v); });
      case tensorflow::DT_DOUBLE:
        return Typed<double>(row, from_dim, [this](double v) { writer_->Float(v); });
      case tensorflow::DT_HALF:
        return Typed<Eigen::half>(row, from_dim,
                                  [this](Eigen::half v) { writer_->Float(static_cast<float>(v)); });
      case tensorflow::DT_BFLOAT16:
        return Typed<tensorflow::bfloat16>(
            row, from_dim, [this](tensorflow::bfloat16 v) { writer_->Float(static_cast<float>(v)); });
      case tensorflow::DT_INT8:
        return Integers<std::int8_t>(row, from_dim);
      case tensorflow::DT_INT16:
        return Integers<std::int16_t>(row, from_dim);
      case tensorflow::DT_INT32:
        return Integers<std::int32_t>(row, from_dim);
      case tensorflow::DT_INT64:
        return Integers<std::int64_t>(row, from_dim);
      case tensorflow::DT_UINT8:
        return Integers<std::uint8_t>(row, from_dim);
      case tensorflow::DT_UINT16:
        return Integers<std::uint16_t>(row, from_dim);
      case tensorflow::DT_UINT32:
        return Integers<std::uint32_t>(row, from_dim);
      case tensorflow::DT_UINT64:
        return Integers<std::uint64_t>(row, from_dim);
      case tensorflow::DT_BOOL:
        return Typed<bool>(row, from_dim, [this](bool v) { writer_->Bool(v); });
      case tensorflow::DT_STRING:
        return Typed<tensorflow::tstring>(row, from_dim, [this](const tensorflow::tstring& v) {
          const absl::string_view value(v.data(), v.size());
          if (bytes_) {
            writer_->Base64(value);
          } else {
            writer_->String(value);
          }
        });
      default:
        return;
    }
  }

  template <class T>
  void Integers(std::int64_t row, int from_dim) {
    Typed<T>(row, from_dim, [this](T v) { writer_->Integer(v); });
  }

  template <class T, class F>
  void Typed(std::int64_t row, int from_dim, F write) {
    const T* data = static_cast<const T*>(tensor_.data());
    if (from_dim == 1) data += row * (tensor_.NumElements() / tensor_.dim_size(0));
    WriteNested(writer_, data, tensor_.shape(), from_dim, write);
  }

  const Tensor& tensor_;
  json::Writer* const writer_;
  const bool bytes_;
};

}  // namespace

absl::Status WritePredictJson(const Signature& signature, PredictFormat format,
                              const std::vector<Tensor>& results, std::string* body) {
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (!OutputWriter::Supports(results[i].dtype())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "Failed to write JSON value for tensor type: ", tensorflow::DataTypeString(results[i].dtype()),
          " (output ", signature.outputs[i].alias, "); JSON has no form for it"));
    }
  }
  json::Writer writer(body);
  absl::InlinedVector<OutputWriter, 4> outputs;
  for (std::size_t i = 0; i < results.size(); ++i)
    outputs.emplace_back(signature.outputs[i], results[i], &writer);
  if (format == PredictFormat::kColumns) {
    writer.Raw("{\"outputs\": ");
    if (outputs.size() == 1) {
      outputs[0].All();
    } else {
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        writer.Raw(i == 0 ? "{" : ", ");
        writer.String(signature.outputs[i].alias);
        writer.Raw(": ");
        outputs[i].All();
      }
      writer.Raw("}");
    }
    writer.Raw("}");
    return absl::OkStatus();
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i].dims() == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("Tensor name: ", signature.outputs[i].alias,
                       " has no batch dimension, which the row format needs; use 'inputs'"));
    }
    if (results[i].dim_size(0) != results[0].dim_size(0)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "Tensor name: ", signature.outputs[i].alias,
          " has inconsistent batch size: ", results[i].dim_size(0), " expecting: ", results[0].dim_size(0),
          "; outputs of different sizes need the column format, 'inputs'"));
    }
  }
  writer.Raw("{\"predictions\": ");
  if (outputs.size() == 1) {
    outputs[0].All();
  } else {
    writer.Raw("[");
    const std::int64_t rows = results.empty() ? 0 : results[0].dim_size(0);
    for (std::int64_t row = 0; row < rows; ++row) {
      if (row != 0) writer.Raw(", ");
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        writer.Raw(i == 0 ? "{" : ", ");
        writer.String(signature.outputs[i].alias);
        writer.Raw(": ");
        outputs[i].Row(row);
      }
      writer.Raw("}");
    }
    writer.Raw("]");
  }
  writer.Raw("}");
  return absl::OkStatus();
}

}  // namespace tfipu::serving
