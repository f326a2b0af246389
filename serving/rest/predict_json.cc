#include "serving/rest/predict_json.h"

#include <memory>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "serving/rest/json_reader.h"
#include "serving/rest/json_writer.h"
#include "serving/rest/tensor_reader.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;

constexpr char kNameIsNoString[] = "'signature_name' key must be a string value.";

absl::Status DocumentIsEmpty() {
  return absl::InvalidArgumentError("JSON Parse error: The document is empty");
}

// Reads the value of "instances" or "inputs" for one signature.
class InputsReader {
 public:
  InputsReader(const Signature& signature, JsonReader* reader) : signature_(signature), reader_(reader) {
    readers_.resize(signature.inputs.size());
  }

  absl::Status Rows(std::vector<Tensor>* inputs) {
    if (reader_->Peek() != '[') {
      reader_->Fail("Expecting 'instances' to be an list/array");
      return reader_->status();
    }
    JsonReader ahead(absl::string_view(reader_->cursor(), reader_->end() - reader_->cursor()), 2);
    ahead.Enter('[');
    if (!ahead.NextElement()) {
      reader_->Fail("'instances' is an empty list");
      return reader_->status();
    }
    if (ahead.Peek() == '{' && !IsBytesObject(ahead.cursor())) {
      reader_->Enter('[');
      for (std::int64_t row = 0; reader_->NextElement(); ++row) {
        if (!NamedRow(row)) break;
      }
      if (!reader_->ok()) return reader_->status();
      if (!unsupported_.ok()) return unsupported_;
      return Collect(true, inputs);
    }
    if (signature_.inputs.size() != 1) {
      reader_->Fail(
          "instances is a plain list, but expecting list of objects as multiple input tensors required as "
          "per "
          "tensorinfo_map");
      return reader_->status();
    }
    inputs->resize(1);
    return Single(&inputs->front());  // all rows together are one value
  }

  absl::Status Columns(std::vector<Tensor>* inputs) {
    if (reader_->Peek() != '{' || IsBytesObject(reader_->cursor())) {
      if (signature_.inputs.size() != 1) {
        reader_->Fail(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map");
        return reader_->status();
      }
      inputs->resize(1);
      return Single(&inputs->front());
    }
    absl::string_view key;
    reader_->Enter('{');
    while (reader_->NextMember(&key)) {
      const int i = signature_.FindInput(key);
      if (i < 0) {
        if (!reader_->SkipValue()) break;
        continue;
      }
      if (readers_[i] != nullptr) {
        reader_->Fail(absl::StrCat("Input ", key, " is given twice"));
        break;
      }
      if (!Append(i)) break;
    }
    if (!reader_->ok()) return reader_->status();
    if (!unsupported_.ok()) return unsupported_;
    return Collect(false, inputs);
  }

 private:
  // Whether the object at `p` is bytes rather than named inputs: "b64" is its only member, and a string. An
  // only input of that name makes no difference, as in TensorFlow Serving.
  bool IsBytesObject(const char* p) const {
    if (signature_.inputs.size() != 1) return false;
    JsonReader ahead(absl::string_view(p, reader_->end() - p), reader_->depth_left());
    absl::string_view key;
    if (!ahead.Enter('{') || !ahead.NextMember(&key) || key != "b64" || ahead.Peek() != '"') return false;
    return !ahead.SkipValue() || !ahead.NextMember(&key);
  }

  absl::Status Single(Tensor* tensor) {
    absl::StatusOr<std::unique_ptr<TensorReader>> values = TensorReader::Create(signature_.inputs[0].dtype);
    if (!values.ok()) return values.status();
    if (!(*values)->Append(reader_)) return reader_->status();
    return (*values)->Finish(false, tensor);
  }

  bool Append(int i) {
    if (readers_[i] == nullptr) {
      absl::StatusOr<std::unique_ptr<TensorReader>> created =
          TensorReader::Create(signature_.inputs[i].dtype);
      if (!created.ok()) {
        unsupported_ = created.status();
        return false;
      }
      readers_[i] = *std::move(created);
    }
    return readers_[i]->Append(reader_);
  }

  bool NamedRow(std::int64_t row) {
    if (reader_->Peek() != '{') {
      return reader_->Fail(
          absl::StrCat("Element ", row, " of 'instances' is not an object, but the first one is"));
    }
    absl::string_view key;
    if (!reader_->Enter('{')) return false;
    std::size_t expected = 0;  // most clients name the inputs in the same order in each row
    while (reader_->NextMember(&key)) {
      int i = expected < order_.size() && signature_.inputs[order_[expected]].alias == key
                  ? order_[expected]
                  : signature_.FindInput(key);
      if (i < 0) {
        return reader_->Fail(
            absl::StrCat("Failed to process element: ", row, " key: ", key,
                         " of 'instances' list. JSON object: does not have named input: ", key));
      }
      if (row == 0) order_.push_back(i);
      ++expected;
      const std::int64_t before = readers_[i] == nullptr ? 0 : readers_[i]->appended();
      if (before != row) {
        return reader_->Fail(absl::StrCat("Input ", key,
                                          before > row ? " is given twice" : " is missing before",
                                          " element: ", row, " of 'instances' list"));
      }
      if (!Append(i)) return false;
    }
    if (!reader_->ok()) return false;
    // Inputs with a default may be left out, but then of all rows.
    for (std::size_t i = 0; i < readers_.size(); ++i) {
      const bool given = readers_[i] != nullptr && readers_[i]->appended() == row + 1;
      const bool left_out = readers_[i] == nullptr && signature_.inputs[i].default_value.has_value();
      if (given || left_out) continue;
      std::string names;
      for (const SignatureTensor& input : signature_.inputs) {
        absl::StrAppend(&names, names.empty() ? "" : ",", input.alias);
      }
      return reader_->Fail(absl::StrCat("Failed to process element: ", row,
                                        " of 'instances' list. Its keys must be equal to: ", names));
    }
    return true;
  }

  absl::Status Collect(bool rows, std::vector<Tensor>* inputs) {
    inputs->resize(readers_.size());
    for (std::size_t i = 0; i < readers_.size(); ++i) {
      const SignatureTensor& input = signature_.inputs[i];
      if (readers_[i] != nullptr) {
        absl::Status status = readers_[i]->Finish(rows, &(*inputs)[i]);
        if (!status.ok()) return status;
      } else if (input.default_value.has_value()) {
        (*inputs)[i] = *input.default_value;
      } else {
        return absl::InvalidArgumentError(
            absl::StrCat("Missing named input: ", input.alias, " in 'inputs' object."));
      }
    }
    return absl::OkStatus();
  }

  const Signature& signature_;
  JsonReader* const reader_;
  std::vector<std::unique_ptr<TensorReader>>
      readers_;               // of the signature's inputs; null until the first value
  std::vector<int> order_;    // of the first row's keys
  absl::Status unsupported_;  // an input of a type that JSON has no form for
};

// One pass over the request. `name`: the signature's, when a pass before has found it.
class RequestPass {
 public:
  RequestPass(absl::string_view body, const SignatureLookup& lookup, int max_depth,
              PredictJsonRequest* request)
      : reader_(body, max_depth), lookup_(lookup), request_(request) {}

  bool name_found() const { return name_found_; }
  const std::string& name() const { return name_; }
  // The inputs were read for another signature than the one named.
  bool guessed_wrong() const { return guessed_wrong_; }

  // With `known_name` null it guesses the default signature until another is named.
  absl::Status Run(const std::string* known_name) {
    if (reader_.Peek() == '\0') return DocumentIsEmpty();
    bool inputs_found = false;
    std::string used_name = known_name != nullptr ? *known_name : "";
    absl::string_view key;
    reader_.Enter('{');
    while (reader_.NextMember(&key)) {
      if (key == "signature_name") {
        absl::string_view name;
        if (name_found_) {
          reader_.Fail("'signature_name' is given twice");
          break;
        }
        if (reader_.Peek() != '"') {
          reader_.Fail(kNameIsNoString);
          break;
        }
        if (!reader_.ReadString(&name)) break;
        name_found_ = true;
        name_ = std::string(name);
        if (!inputs_found) {
          used_name = name_;
        } else if (used_name != name_) {
          guessed_wrong_ = true;
        }
      } else if (key == "instances" || key == "inputs") {
        if (inputs_found) {
          reader_.Fail("Expected one of 'inputs' and 'instances', once");
          break;
        }
        inputs_found = true;
        request_->format = key == "instances" ? PredictFormat::kRows : PredictFormat::kColumns;
        absl::StatusOr<const Signature*> signature = lookup_(used_name);
        if (!signature.ok()) return signature.status();
        request_->signature = *signature;
        InputsReader inputs(**signature, &reader_);
        request_->inputs.clear();
        const bool rows = request_->format == PredictFormat::kRows;
        absl::Status status = rows ? inputs.Rows(&request_->inputs) : inputs.Columns(&request_->inputs);
        // As in TensorFlow Serving, only the column format tells types without a form apart.
        if (rows && absl::IsUnimplemented(status)) return absl::InvalidArgumentError(status.message());
        if (!status.ok()) return status;
      } else if (!reader_.SkipValue()) {
        break;
      }
    }
    if (!reader_.Finish()) return reader_.status();
    if (!inputs_found) return absl::InvalidArgumentError("Missing 'inputs' or 'instances' key");
    return absl::OkStatus();
  }

 private:
  JsonReader reader_;
  const SignatureLookup& lookup_;
  PredictJsonRequest* const request_;
  bool name_found_ = false;
  std::string name_;
  bool guessed_wrong_ = false;
};

// The signature's name, wherever it stands; false when there is none.
bool FindSignatureName(absl::string_view body, int max_depth, std::string* name) {
  JsonReader reader(body, max_depth);
  absl::string_view key;
  reader.Enter('{');
  while (reader.NextMember(&key)) {
    if (key == "signature_name" && reader.Peek() == '"') {
      absl::string_view value;
      if (!reader.ReadString(&value)) return false;
      *name = std::string(value);
      return true;
    }
    if (!reader.SkipValue()) return false;
  }
  return false;
}

// Writes the elements from `data` on as arrays of the dimensions of `shape` from `from_dim` on.
template <class T, class Write>
void WriteNested(JsonWriter* writer, const T* data, const tensorflow::TensorShape& shape, int from_dim,
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
  OutputWriter(const SignatureTensor& output, const Tensor& tensor, JsonWriter* writer)
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
  JsonWriter* const writer_;
  const bool bytes_;
};

}  // namespace

absl::Status ParsePredictJson(absl::string_view body, const SignatureLookup& lookup, int max_depth,
                              PredictJsonRequest* request) {
  RequestPass first(body, lookup, max_depth, request);
  absl::Status status = first.Run(nullptr);
  if (status.ok() && !first.guessed_wrong()) return status;
  std::string name;
  if (first.name_found()) {
    // Named before the inputs: they were read for the right signature, so that the failure stands.
    if (!first.guessed_wrong()) return status;
    name = first.name();
  } else if (!FindSignatureName(body, max_depth, &name)) {
    return status;
  }
  return RequestPass(body, lookup, max_depth, request).Run(&name);
}

absl::Status CheckPredictJson(absl::string_view body, int max_depth) {
  JsonReader reader(body, max_depth);
  if (reader.Peek() == '\0') return DocumentIsEmpty();
  absl::string_view key;
  reader.Enter('{');
  while (reader.NextMember(&key)) {
    if (key == "signature_name" && reader.Peek() != '"') {
      reader.Fail(kNameIsNoString);
    } else if (!reader.SkipValue()) {
      break;
    }
  }
  return reader.Finish() ? absl::OkStatus() : reader.status();
}

absl::Status WritePredictJson(const Signature& signature, PredictFormat format,
                              const std::vector<Tensor>& results, std::string* body) {
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (!OutputWriter::Supports(results[i].dtype())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "Failed to write JSON value for tensor type: ", tensorflow::DataTypeString(results[i].dtype()),
          " (output ", signature.outputs[i].alias, "); JSON has no form for it"));
    }
  }
  JsonWriter writer(body);
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
