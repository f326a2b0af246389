#include "serving/rest/predict_json.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "serving/json/reader.h"
#include "serving/rest/tensor_reader.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;

constexpr char kNameIsNotAString[] = "'signature_name' key must be a string value.";

absl::Status DocumentIsEmpty() {
  return absl::InvalidArgumentError("JSON Parse error: The document is empty");
}

// Reads the value of "instances" or "inputs" for one signature.
class InputsReader {
 public:
  InputsReader(const Signature& signature, json::Reader* reader) : signature_(signature), reader_(reader) {
    readers_.resize(signature.inputs.size());
  }

  absl::Status Rows(std::vector<Tensor>* inputs) {
    if (reader_->Peek() != '[') {
      reader_->Fail("Expecting 'instances' to be an list/array");
      return reader_->status();
    }
    json::Reader ahead(absl::string_view(reader_->cursor(), reader_->end() - reader_->cursor()), 2);
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
    json::Reader ahead(absl::string_view(p, reader_->end() - p), reader_->depth_left());
    absl::string_view key;
    if (!ahead.Enter('{') || !ahead.NextMember(&key) || key != "b64" || ahead.Peek() != '"') return false;
    return !ahead.SkipValue() || !ahead.NextMember(&key);
  }

  absl::Status Single(Tensor* tensor) {
    TFIPU_ASSIGN_OR_RETURN(const std::unique_ptr<TensorReader> values,
                           TensorReader::Create(signature_.inputs[0].dtype));
    if (!values->Append(reader_)) return reader_->status();
    return values->Finish(false, tensor);
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
        TFIPU_RETURN_IF_ERROR(readers_[i]->Finish(rows, &(*inputs)[i]));
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
  json::Reader* const reader_;
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
          reader_.Fail(kNameIsNotAString);
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
        TFIPU_ASSIGN_OR_RETURN(request_->signature, lookup_(used_name));
        InputsReader inputs(*request_->signature, &reader_);
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
  json::Reader reader_;
  const SignatureLookup& lookup_;
  PredictJsonRequest* const request_;
  bool name_found_ = false;
  std::string name_;
  bool guessed_wrong_ = false;
};

// The signature's name, wherever it stands; false when there is none.
bool FindSignatureName(absl::string_view body, int max_depth, std::string* name) {
  json::Reader reader(body, max_depth);
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
  json::Reader reader(body, max_depth);
  if (reader.Peek() == '\0') return DocumentIsEmpty();
  absl::string_view key;
  reader.Enter('{');
  while (reader.NextMember(&key)) {
    if (key == "signature_name" && reader.Peek() != '"') {
      reader.Fail(kNameIsNotAString);
    } else if (!reader.SkipValue()) {
      break;
    }
  }
  return reader.Finish() ? absl::OkStatus() : reader.status();
}

}  // namespace tfipu::serving
