#include "serving/api/predict_wire.h"

#include <limits>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/base/status_macros.h"
#include "google/protobuf/io/coded_stream.h"
#include "serving/api/slice_stream.h"
#include "serving/api/tensor_wire.h"
#include "serving/api/wire_reader.h"

namespace tfipu::serving {
namespace {

using google::protobuf::io::CodedInputStream;
using tensorflow::Tensor;

constexpr std::uint32_t kModelSpec = Tag(1, kBytes);
constexpr std::uint32_t kInput = Tag(2, kBytes);
constexpr std::uint32_t kOutputFilter = Tag(3, kBytes);

// INTERNAL is gRPC's word for a request that its server cannot parse.
absl::Status Malformed(absl::string_view what) {
  return absl::InternalError(absl::StrCat("The request is not a PredictRequest: ", what, " is malformed"));
}

// A part of the message.
struct Range {
  int begin = 0;
  int size = 0;
};

// Calls `read` with a stream over a part of the message that ends with it.
template <typename Read>
auto ReadRange(const std::vector<Slice>& bytes, Range range, Read read) {
  if (bytes.size() == 1) {
    CodedInputStream input(static_cast<const std::uint8_t*>(bytes[0].data) + range.begin, range.size);
    input.PushLimit(range.size);
    return read(&input);
  }
  SliceStream stream(bytes);
  stream.Skip(range.begin);
  CodedInputStream input(&stream);
  input.SetTotalBytesLimit(std::numeric_limits<int>::max());
  // No length inside may promise more than there is: memory is allocated by it.
  input.PushLimit(range.size);
  return read(&input);
}

absl::Status WholeRange(const std::vector<Slice>& bytes, Range* range) {
  std::size_t size = 0;
  for (const Slice& slice : bytes) size += slice.size;
  if (size > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return absl::InvalidArgumentError("The request is larger than the 2 GiB that a message can have");
  }
  range->size = static_cast<int>(size);
  return absl::OkStatus();
}

bool ReadVersion(CodedInputStream* input, std::int64_t* version) {
  Nested value(input);
  if (!value.ok()) return false;
  *version = 0;
  while (!value.AtEnd()) {
    const std::uint32_t tag = input->ReadTag();
    if (tag == Tag(1, kVarint)) {
      std::uint64_t number;
      if (!input->ReadVarint64(&number)) return false;
      *version = static_cast<std::int64_t>(number);
    } else if (!SkipField(input, tag)) {
      return false;
    }
  }
  return true;
}

bool ReadModelSpec(CodedInputStream* input, PredictTarget* target) {
  Nested spec(input);
  if (!spec.ok()) return false;
  while (!spec.AtEnd()) {
    const std::uint32_t tag = input->ReadTag();
    switch (tag) {
      case Tag(1, kBytes):
        if (!ReadString(input, &target->model.name)) return false;
        break;
      case Tag(2, kBytes): {
        std::int64_t version;
        if (!ReadVersion(input, &version)) return false;
        target->model.version = version;
        target->model.label.clear();
        break;
      }
      case Tag(3, kBytes):
        if (!ReadString(input, &target->signature_name)) return false;
        break;
      case Tag(4, kBytes):
        if (!ReadString(input, &target->model.label)) return false;
        target->model.version.reset();
        break;
      default:
        if (!SkipField(input, tag)) return false;
    }
  }
  return true;
}

// An entry of the map of inputs.
struct Entry {
  std::string name;
  bool has_tensor = false;
  Range tensor;
};

bool ReadEntry(CodedInputStream* input, Entry* entry) {
  Nested message(input);
  if (!message.ok()) return false;
  while (!message.AtEnd()) {
    const std::uint32_t tag = input->ReadTag();
    if (tag == Tag(1, kBytes)) {
      if (!ReadString(input, &entry->name)) return false;
    } else if (tag == Tag(2, kBytes)) {
      entry->has_tensor = true;
      if (!ReadLength(input, &entry->tensor.size)) return false;
      entry->tensor.begin = input->CurrentPosition();
      if (!input->Skip(entry->tensor.size)) return false;
    } else if (!SkipField(input, tag)) {
      return false;
    }
  }
  return true;
}

std::string Aliases(const std::vector<SignatureTensor>& tensors) {
  return absl::StrJoin(tensors, ",", [](std::string* out, const SignatureTensor& tensor) {
    absl::StrAppend(out, tensor.alias);
  });
}

absl::Status InputError(absl::string_view name, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("Input \"", name, "\": ", status.message()));
}

// Reads what a signature needs.
class InputsReader {
 public:
  InputsReader(const std::vector<Slice>& bytes, const Signature& signature)
      : bytes_(bytes),
        signature_(signature),
        entries_(signature.inputs.size()),
        wanted_(signature.outputs.size(), false) {}

  absl::Status Read(CodedInputStream* message, PredictInputs* inputs) {
    TFIPU_RETURN_IF_ERROR(FindEntries(message));
    std::size_t repeated = 0;
    TFIPU_RETURN_IF_ERROR(Check(&repeated));
    if (!problem_.ok()) return problem_;
    TFIPU_RETURN_IF_ERROR(inputs->repeated.Take(repeated));
    inputs->inputs.reserve(entries_.size());
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (!entries_[i].given) {
        inputs->inputs.push_back(*signature_.inputs[i].default_value);
        continue;
      }
      inputs->inputs.emplace_back();
      absl::Status status = ReadRange(bytes_, entries_[i].range, [&](CodedInputStream* input) {
        return entries_[i].tensor.Read(input, &inputs->inputs.back());
      });
      if (!status.ok()) return InputError(signature_.inputs[i].alias, status);
    }
    for (std::size_t i = 0; i < wanted_.size(); ++i) {
      if (any_filter_ && !wanted_[i]) continue;
      inputs->outputs.push_back(static_cast<int>(i));
    }
    return absl::OkStatus();
  }

 private:
  struct Found {
    bool given = false;
    bool has_tensor = false;
    Range range;
    WireTensor tensor;
  };

  // Finds out what is there, keeps the first problem for later, and nothing that is not the signature's.
  absl::Status FindEntries(CodedInputStream* message) {
    while (message->BytesUntilLimit() > 0) {
      const std::uint32_t tag = message->ReadTag();
      if (tag == kInput) {
        Entry entry;
        if (!ReadEntry(message, &entry)) return Malformed("an input");
        AddEntry(entry);
      } else if (tag == kOutputFilter) {
        std::string alias;
        if (!ReadString(message, &alias)) return Malformed("output_filter");
        AddFilter(alias);
      } else if (!SkipField(message, tag)) {
        return Malformed("a field");
      }
    }
    return absl::OkStatus();
  }

  void AddEntry(const Entry& entry) {
    constexpr std::size_t kEnoughNames = 256;
    if (sent_.size() < kEnoughNames) absl::StrAppend(&sent_, sent_.empty() ? "" : ",", entry.name);
    const int i = signature_.FindInput(entry.name);
    if (i < 0) {
      if (problem_.ok()) {
        problem_ = absl::InvalidArgumentError(
            absl::StrCat("input tensor alias not found in signature: ", entry.name,
                         ". Inputs expected to be in the set {", Aliases(signature_.inputs), "}."));
      }
      return;
    }
    // As in any map field, the last of two entries counts.
    entries_[i].given = true;
    entries_[i].has_tensor = entry.has_tensor;
    entries_[i].range = entry.tensor;
  }

  void AddFilter(const std::string& alias) {
    any_filter_ = true;
    const int i = signature_.FindOutput(alias);
    if (i >= 0 && !wanted_[i]) {
      wanted_[i] = true;
    } else if (problem_.ok()) {
      problem_ = absl::InvalidArgumentError(
          i >= 0 ? absl::StrCat("duplicate output tensor alias: ", alias)
                 : absl::StrCat("output tensor alias not found in signature: ", alias,
                                " Outputs expected to be in the set {", Aliases(signature_.outputs), "}."));
    }
  }

  absl::Status Check(std::size_t* repeated) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const SignatureTensor& wanted = signature_.inputs[i];
      if (!entries_[i].given) {
        if (wanted.default_value) continue;
        return absl::InvalidArgumentError(absl::StrCat(
            "Signature input alias: ", wanted.alias, "(feed name: ", wanted.tensor_name,
            ") not found in request and no default value provided. Inputs expected to be in the request {",
            sent_, "}, the signature's inputs: {", Aliases(signature_.inputs), "}"));
      }
      if (!entries_[i].has_tensor) {
        return InputError(wanted.alias, absl::InvalidArgumentError("it has no tensor"));
      }
      WireTensor& tensor = entries_[i].tensor;
      if (!ReadRange(bytes_, entries_[i].range,
                     [&](CodedInputStream* input) { return tensor.Scan(input, wanted.dtype); })) {
        return Malformed("a tensor");
      }
      if (absl::Status status = tensor.Check(kMaxRepeatedBytes - *repeated); !status.ok())
        return InputError(wanted.alias, status);
      *repeated += tensor.repeated_bytes();
    }
    return absl::OkStatus();
  }

  const std::vector<Slice>& bytes_;
  const Signature& signature_;
  absl::InlinedVector<Found, 2> entries_;  // of the signature's inputs
  absl::InlinedVector<bool, 8> wanted_;    // of the signature's outputs
  bool any_filter_ = false;
  std::string sent_;
  absl::Status problem_;
};

absl::Status ReadTarget(CodedInputStream* input, PredictTarget* target) {
  while (input->BytesUntilLimit() > 0) {
    const std::uint32_t tag = input->ReadTag();
    if (tag == kModelSpec) {
      target->has_model_spec = true;
      if (!ReadModelSpec(input, target)) return Malformed("model_spec");
    } else if (!SkipField(input, tag)) {
      return Malformed("a field");
    }
  }
  return absl::OkStatus();
}

// Whether all of the message can be read, values aside.
absl::Status CheckForm(CodedInputStream* input) {
  while (input->BytesUntilLimit() > 0) {
    const std::uint32_t tag = input->ReadTag();
    if (tag == kInput) {
      Nested entry(input);
      if (!entry.ok()) return Malformed("an input");
      while (!entry.AtEnd()) {
        const std::uint32_t field = input->ReadTag();
        std::string name;
        bool ok = true;
        if (field == Tag(1, kBytes)) {
          ok = ReadString(input, &name);
        } else if (field == Tag(2, kBytes)) {
          Nested tensor(input);
          ok = tensor.ok() && WireTensor().Scan(input, tensorflow::DT_INVALID);
        } else {
          ok = SkipField(input, field);
        }
        if (!ok) return Malformed("an input");
      }
    } else if (tag == kOutputFilter) {
      std::string alias;
      if (!ReadString(input, &alias)) return Malformed("output_filter");
    } else if (!SkipField(input, tag)) {
      return Malformed("a field");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParsePredictTarget(const std::vector<Slice>& bytes, PredictTarget* target) {
  Range whole;
  TFIPU_RETURN_IF_ERROR(WholeRange(bytes, &whole));
  return ReadRange(bytes, whole, [&](CodedInputStream* input) { return ReadTarget(input, target); });
}

absl::Status ReadPredictInputs(const std::vector<Slice>& bytes, const Signature& signature,
                               PredictInputs* inputs) {
  Range whole;
  TFIPU_RETURN_IF_ERROR(WholeRange(bytes, &whole));
  InputsReader reader(bytes, signature);
  absl::Status status =
      ReadRange(bytes, whole, [&](CodedInputStream* input) { return reader.Read(input, inputs); });
  return status.ok() ? status : UnlessMalformed(bytes, std::move(status));
}

absl::Status UnlessMalformed(const std::vector<Slice>& bytes, absl::Status error) {
  Range whole;
  TFIPU_RETURN_IF_ERROR(WholeRange(bytes, &whole));
  absl::Status form = ReadRange(bytes, whole, CheckForm);
  return form.ok() ? error : form;
}

}  // namespace tfipu::serving
