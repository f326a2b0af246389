#include "serving/api/predict_wire.h"

#include <cstring>
#include <limits>
#include <optional>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "serving/api/slice_stream.h"
#include "serving/api/tensor_proto.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;
using tensorflow::DataType;
using tensorflow::Tensor;
using tensorflow::TensorProto;
using tensorflow::TensorShape;

constexpr std::uint32_t Tag(int field, WireFormatLite::WireType type) {
  return static_cast<std::uint32_t>(field) << 3 | type;
}
constexpr auto kVarint = WireFormatLite::WIRETYPE_VARINT;
constexpr auto kBytes = WireFormatLite::WIRETYPE_LENGTH_DELIMITED;

// INTERNAL is gRPC's word for a request that its server cannot parse.
absl::Status Malformed(absl::string_view what) {
  return absl::InternalError(absl::StrCat("The request is not a PredictRequest: ", what, " is malformed"));
}

// Reads a length and makes it the limit of what follows.
class Nested {
 public:
  explicit Nested(CodedInputStream* input) : input_(input) {
    int length = 0;
    ok_ = input->ReadVarintSizeAsInt(&length);
    if (!ok_) return;
    const int outer = input->BytesUntilLimit();
    ok_ = outer < 0 || length <= outer;
    if (ok_) limit_ = input->PushLimit(length);
  }
  ~Nested() {
    if (limit_) input_->PopLimit(*limit_);
  }
  Nested(const Nested&) = delete;
  Nested& operator=(const Nested&) = delete;
  // Whether there was a length that fits.
  bool ok() const { return ok_; }
  // Whether all of it was read.
  bool AtEnd() const { return input_->BytesUntilLimit() == 0; }

 private:
  CodedInputStream* const input_;
  std::optional<CodedInputStream::Limit> limit_;
  bool ok_;
};

bool ReadBytes(CodedInputStream* input, std::string* value) {
  int length = 0;
  return input->ReadVarintSizeAsInt(&length) && input->ReadString(value, length);
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
    } else if (tag == 0 || !WireFormatLite::SkipField(input, tag)) {
      return false;
    }
  }
  return true;
}

bool ReadModelSpec(CodedInputStream* input, PredictCall* call) {
  Nested spec(input);
  if (!spec.ok()) return false;
  while (!spec.AtEnd()) {
    const std::uint32_t tag = input->ReadTag();
    switch (tag) {
      case Tag(1, kBytes):
        if (!ReadBytes(input, &call->model.name)) return false;
        break;
      case Tag(2, kBytes): {
        std::int64_t version;
        if (!ReadVersion(input, &version)) return false;
        call->model.version = version;
        call->model.label.clear();
        break;
      }
      case Tag(3, kBytes):
        if (!ReadBytes(input, &call->signature_name)) return false;
        break;
      case Tag(4, kBytes):
        if (!ReadBytes(input, &call->model.label)) return false;
        call->model.version.reset();
        break;
      default:
        if (tag == 0 || !WireFormatLite::SkipField(input, tag)) return false;
    }
  }
  return true;
}

// A shape as it is read; kept as numbers because the message may yet turn out to be one for protobuf.
struct Dims {
  absl::InlinedVector<std::int64_t, 8> sizes;
  bool unknown_rank = false;
};

bool ReadDims(CodedInputStream* input, Dims* dims) {
  Nested shape(input);
  if (!shape.ok()) return false;
  while (!shape.AtEnd()) {
    const std::uint32_t tag = input->ReadTag();
    if (tag == Tag(2, kBytes)) {
      Nested dim(input);
      if (!dim.ok()) return false;
      std::uint64_t size = 0;
      while (!dim.AtEnd()) {
        const std::uint32_t field = input->ReadTag();
        if (field == Tag(1, kVarint)) {
          if (!input->ReadVarint64(&size)) return false;
        } else if (field == 0 || !WireFormatLite::SkipField(input, field)) {
          return false;
        }
      }
      // One more than is allowed is enough to refuse it later.
      if (dims->sizes.size() <= TensorShape::MaxDimensions())
        dims->sizes.push_back(static_cast<std::int64_t>(size));
    } else if (tag == Tag(3, kVarint)) {
      std::uint64_t unknown;
      if (!input->ReadVarint64(&unknown)) return false;
      dims->unknown_rank = unknown != 0;
    } else if (tag == 0 || !WireFormatLite::SkipField(input, tag)) {
      return false;
    }
  }
  return true;
}

// Whether elements lie on the wire as they lie in memory, when packed in field `field`.
bool PackedAsInMemory(DataType dtype, int field) {
  switch (dtype) {
    case tensorflow::DT_FLOAT:
      return field == TensorProto::kFloatValFieldNumber;
    case tensorflow::DT_DOUBLE:
      return field == TensorProto::kDoubleValFieldNumber;
    case tensorflow::DT_COMPLEX64:
      return field == TensorProto::kScomplexValFieldNumber;
    case tensorflow::DT_COMPLEX128:
      return field == TensorProto::kDcomplexValFieldNumber;
    default:
      return false;
  }
}

// The tensor under construction.
class TensorReader {
 public:
  explicit TensorReader(CodedInputStream* input) : input_(input) {}

  absl::Status Read(Tensor* tensor) {
    Nested message(input_);
    if (!message.ok()) return Malformed("a tensor");
    while (!message.AtEnd()) {
      const std::uint32_t tag = input_->ReadTag();
      switch (tag) {
        case Tag(TensorProto::kDtypeFieldNumber, kVarint): {
          std::uint64_t value;
          if (!input_->ReadVarint64(&value)) return Malformed("a tensor's dtype");
          dtype_ = static_cast<DataType>(value);
          break;
        }
        case Tag(TensorProto::kTensorShapeFieldNumber, kBytes):
          // In protobuf two shapes would merge; nobody sends that.
          if (!dims_.sizes.empty()) return absl::InvalidArgumentError("A tensor has two shapes");
          if (!ReadDims(input_, &dims_)) return Malformed("a tensor's shape");
          break;
        case Tag(TensorProto::kVersionNumberFieldNumber, kVarint): {
          std::uint64_t value;
          if (!input_->ReadVarint64(&value)) return Malformed("a tensor's version");
          break;
        }
        default: {
          if (tag == 0) return Malformed("a tensor");
          bool done = false;
          if (absl::Status status = ReadValues(tag, tensor, &done); !status.ok()) return status;
          return done ? absl::OkStatus() : ReadRest(tag, tensor);
        }
      }
    }
    return Finish(TensorProto(), tensor);
  }

 private:
  // Reads a field of values straight into a new tensor where it is the last field and holds them all.
  // Otherwise leaves the stream right behind the tag.
  absl::Status ReadValues(std::uint32_t tag, Tensor* tensor, bool* done) {
    const int field = WireFormatLite::GetTagFieldNumber(tag);
    if (WireFormatLite::GetTagWireType(tag) != kBytes || !IsWireType(dtype_)) return absl::OkStatus();
    TensorShape shape;
    if (absl::Status status = Shape(&shape); !status.ok()) return status;
    if (dtype_ == tensorflow::DT_STRING) {
      if (field != TensorProto::kStringValFieldNumber) return absl::OkStatus();
      return ReadStrings(tag, shape, tensor, done);
    }
    // The length is looked at in the buffer, so that the field is still whole for ReadRest().
    int length = 0;
    if (!PeekLength(&length)) return absl::OkStatus();
    const std::int64_t elements = shape.num_elements();
    const std::int64_t element_size = tensorflow::DataTypeSize(dtype_);
    if (field == TensorProto::kTensorContentFieldNumber || PackedAsInMemory(dtype_, field)) {
      if (length % element_size != 0 || length / element_size != elements) return absl::OkStatus();
      Tensor made(dtype_, shape);
      input_->ReadVarintSizeAsInt(&length);
      if (!input_->ReadRaw(made.data(), length)) return Malformed("a tensor's values");
      if (dtype_ == tensorflow::DT_BOOL) NormalizeBools(&made);
      *tensor = std::move(made);
      *done = true;
      return absl::OkStatus();
    }
    // A number takes a byte on the wire at least.
    if (elements > length) return absl::OkStatus();
    if (dtype_ == tensorflow::DT_INT64 && field == TensorProto::kInt64ValFieldNumber) {
      return ReadVarints<std::int64_t>(shape, tensor, done,
                                       [this](std::int64_t value) { partial_.add_int64_val(value); });
    }
    if (dtype_ == tensorflow::DT_INT32 && field == TensorProto::kIntValFieldNumber) {
      return ReadVarints<std::int32_t>(shape, tensor, done,
                                       [this](std::int32_t value) { partial_.add_int_val(value); });
    }
    return absl::OkStatus();
  }

  // A packed field of varints that is the last one. `keep` hands a value to protobuf.
  template <typename T, typename Keep>
  absl::Status ReadVarints(const TensorShape& shape, Tensor* tensor, bool* done, Keep keep) {
    Tensor made(dtype_, shape);
    auto flat = made.flat<T>();
    int length = 0;
    input_->ReadVarintSizeAsInt(&length);
    std::int64_t i = 0;
    while (input_->BytesUntilLimit() > 0) {
      std::uint64_t value;
      if (!input_->ReadVarint64(&value)) return Malformed("a tensor's values");
      // As in TensorFlow, values beyond the last element are dropped.
      if (i < flat.size()) flat(i++) = static_cast<T>(value);
    }
    *done = true;
    if (i == flat.size()) {
      *tensor = std::move(made);
      return absl::OkStatus();
    }
    for (std::int64_t k = 0; k < i; ++k) keep(flat(k));
    return Finish(std::move(partial_), tensor);
  }

  // string_val: one field an element.
  absl::Status ReadStrings(std::uint32_t tag, const TensorShape& shape, Tensor* tensor, bool* done) {
    // An element takes two bytes on the wire at least, and the first one's tag was read.
    const std::int64_t elements = shape.num_elements();
    if (elements == 0 || elements > input_->BytesUntilLimit() / 2 + 1) return absl::OkStatus();
    Tensor made(dtype_, shape);
    auto flat = made.flat<tensorflow::tstring>();
    std::int64_t i = 0;
    for (; i < elements; ++i) {
      if (i > 0 && !input_->ExpectTag(tag)) break;
      int length = 0;
      if (!input_->ReadVarintSizeAsInt(&length)) return Malformed("a tensor's strings");
      const int left = input_->BytesUntilLimit();
      if (length > left) return Malformed("a tensor's strings");
      flat(i).resize_uninitialized(length);
      if (!input_->ReadRaw(flat(i).mdata(), length)) return Malformed("a tensor's strings");
    }
    if (i == elements && input_->BytesUntilLimit() == 0) {
      *tensor = std::move(made);
      *done = true;
      return absl::OkStatus();
    }
    // Too few, too many, or split by other fields: go on in protobuf with what was read.
    for (std::int64_t k = 0; k < i; ++k) partial_.add_string_val(flat(k).data(), flat(k).size());
    *done = true;
    return ReadRest(0, tensor);
  }

  bool PeekLength(int* length) {
    const void* data;
    int size;
    if (!input_->GetDirectBufferPointer(&data, &size)) return false;
    CodedInputStream peek(static_cast<const std::uint8_t*>(data), size);
    // The last field's length reaches to the end exactly.
    return peek.ReadVarintSizeAsInt(length) &&
           peek.CurrentPosition() + static_cast<std::int64_t>(*length) == input_->BytesUntilLimit();
  }

  // Lets protobuf read on from the field of `tag` (0: from the next tag).
  absl::Status ReadRest(std::uint32_t tag, Tensor* tensor) {
    if (tag != 0) {
      // The tag was taken from the stream already. Fields of length take their bytes along; others are too
      // short to matter.
      std::string field;
      std::uint8_t tag_bytes[5];
      field.append(reinterpret_cast<char*>(tag_bytes),
                   CodedOutputStream::WriteVarint32ToArray(tag, tag_bytes) - tag_bytes);
      google::protobuf::io::StringOutputStream out(&field);
      {
        CodedOutputStream coded(&out);
        // CopyField appends: StringOutputStream starts at the string's end.
        if (!CopyField(tag, &coded)) return Malformed("a tensor's values");
      }
      if (!partial_.MergeFromString(field)) return Malformed("a tensor's values");
    }
    if (!partial_.MergeFromCodedStream(input_) || input_->BytesUntilLimit() != 0)
      return Malformed("a tensor's values");
    return Finish(std::move(partial_), tensor);
  }

  // Copies the field behind a tag.
  bool CopyField(std::uint32_t tag, CodedOutputStream* out) {
    switch (WireFormatLite::GetTagWireType(tag)) {
      case WireFormatLite::WIRETYPE_VARINT: {
        std::uint64_t value;
        if (!input_->ReadVarint64(&value)) return false;
        out->WriteVarint64(value);
        return true;
      }
      case WireFormatLite::WIRETYPE_FIXED64: {
        std::uint64_t value;
        if (!input_->ReadLittleEndian64(&value)) return false;
        out->WriteLittleEndian64(value);
        return true;
      }
      case WireFormatLite::WIRETYPE_FIXED32: {
        std::uint32_t value;
        if (!input_->ReadLittleEndian32(&value)) return false;
        out->WriteLittleEndian32(value);
        return true;
      }
      case WireFormatLite::WIRETYPE_LENGTH_DELIMITED: {
        std::string value;
        int length = 0;
        if (!input_->ReadVarintSizeAsInt(&length) || length > input_->BytesUntilLimit() ||
            !input_->ReadString(&value, length)) {
          return false;
        }
        out->WriteVarint32(static_cast<std::uint32_t>(length));
        out->WriteString(value);
        return true;
      }
      default:
        return false;
    }
  }

  absl::Status Shape(TensorShape* shape) const {
    if (dims_.unknown_rank) {
      return absl::InvalidArgumentError("A tensor's shape has unknown rank; all dimensions must be given");
    }
    return TensorShape::BuildTensorShape(absl::MakeConstSpan(dims_.sizes), shape);
  }

  // What protobuf read of the values, with the type and the shape read before, or later, by it.
  absl::Status Finish(TensorProto proto, Tensor* tensor) {
    if (proto.dtype() == tensorflow::DT_INVALID) proto.set_dtype(dtype_);
    if (!proto.has_tensor_shape()) {
      if (dims_.sizes.size() > TensorShape::MaxDimensions()) {
        TensorShape shape;
        return Shape(&shape);
      }
      auto* shape = proto.mutable_tensor_shape();
      for (std::int64_t size : dims_.sizes) shape->add_dim()->set_size(size);
      shape->set_unknown_rank(dims_.unknown_rank);
    }
    auto made = TensorFromProto(proto);
    if (!made.ok()) return made.status();
    *tensor = *std::move(made);
    return absl::OkStatus();
  }

  CodedInputStream* const input_;
  DataType dtype_ = tensorflow::DT_INVALID;
  Dims dims_;
  TensorProto partial_;
};

absl::Status ReadInput(CodedInputStream* input, std::vector<NamedTensor>* inputs) {
  Nested entry(input);
  if (!entry.ok()) return Malformed("an input");
  NamedTensor named;
  bool has_value = false;
  while (!entry.AtEnd()) {
    const std::uint32_t tag = input->ReadTag();
    if (tag == Tag(1, kBytes)) {
      if (!ReadBytes(input, &named.first)) return Malformed("an input's name");
    } else if (tag == Tag(2, kBytes)) {
      absl::Status status = TensorReader(input).Read(&named.second);
      if (!status.ok()) {
        return absl::Status(status.code(), absl::StrCat("Input \"", named.first, "\": ", status.message()));
      }
      has_value = true;
    } else if (tag == 0 || !WireFormatLite::SkipField(input, tag)) {
      return Malformed("an input");
    }
  }
  if (!has_value) {
    return absl::InvalidArgumentError(absl::StrCat("Input \"", named.first, "\" has no tensor"));
  }
  // As in any map field, the last of two entries counts.
  for (NamedTensor& earlier : *inputs) {
    if (earlier.first == named.first) {
      earlier = std::move(named);
      return absl::OkStatus();
    }
  }
  inputs->push_back(std::move(named));
  return absl::OkStatus();
}

absl::Status ReadRequest(CodedInputStream* input, int size, PredictCall* call) {
  // No length inside may promise more than there is: memory is allocated by it.
  input->SetTotalBytesLimit(std::numeric_limits<int>::max());
  input->PushLimit(size);
  while (true) {
    const std::uint32_t tag = input->ReadTag();
    switch (tag) {
      case 0:
        if (!input->ConsumedEntireMessage()) return Malformed("the message");
        return absl::OkStatus();
      case Tag(1, kBytes):
        call->has_model_spec = true;
        if (!ReadModelSpec(input, call)) return Malformed("model_spec");
        break;
      case Tag(2, kBytes):
        if (absl::Status status = ReadInput(input, &call->inputs); !status.ok()) return status;
        break;
      case Tag(3, kBytes): {
        std::string alias;
        if (!ReadBytes(input, &alias)) return Malformed("output_filter");
        call->output_filter.push_back(std::move(alias));
        break;
      }
      default:
        if (!WireFormatLite::SkipField(input, tag)) return Malformed("a field");
    }
  }
}

}  // namespace

absl::Status ParsePredictRequest(const std::vector<Slice>& bytes, PredictCall* call) {
  std::size_t size = 0;
  for (const Slice& slice : bytes) size += slice.size;
  if (size > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return absl::InvalidArgumentError("The request is larger than the 2 GiB that a message can have");
  }
  if (bytes.size() == 1) {
    CodedInputStream input(static_cast<const std::uint8_t*>(bytes[0].data), static_cast<int>(size));
    return ReadRequest(&input, static_cast<int>(size), call);
  }
  SliceStream stream(bytes);
  CodedInputStream input(&stream);
  return ReadRequest(&input, static_cast<int>(size), call);
}

namespace {

constexpr std::size_t VarintSize(std::uint64_t value) {
  std::size_t size = 1;
  while (value >= 0x80) value >>= 7, ++size;
  return size;
}
// A length-delimited field with a tag of one byte.
std::size_t FieldSize(std::size_t length) { return 1 + VarintSize(length) + length; }

std::uint8_t* WriteHead(int field, std::size_t length, std::uint8_t* out) {
  out = CodedOutputStream::WriteVarint32ToArray(Tag(field, kBytes), out);
  return CodedOutputStream::WriteVarint64ToArray(length, out);
}
std::uint8_t* WriteBytes(int field, absl::string_view bytes, std::uint8_t* out) {
  out = WriteHead(field, bytes.size(), out);
  std::memcpy(out, bytes.data(), bytes.size());
  return out + bytes.size();
}

// How a type's elements are written.
enum class Encoding { kRaw, kBools, kVarint, kStrings, kByProtobuf };
struct Layout {
  Encoding encoding;
  int field;
};

Layout LayoutOf(DataType dtype, bool tensor_content) {
  if (tensor_content) {
    if (dtype == tensorflow::DT_STRING || !tensorflow::DataTypeCanUseMemcpy(dtype))
      return {Encoding::kByProtobuf, 0};
    return {Encoding::kRaw, TensorProto::kTensorContentFieldNumber};
  }
  switch (dtype) {
    case tensorflow::DT_FLOAT:
      return {Encoding::kRaw, TensorProto::kFloatValFieldNumber};
    case tensorflow::DT_DOUBLE:
      return {Encoding::kRaw, TensorProto::kDoubleValFieldNumber};
    case tensorflow::DT_COMPLEX64:
      return {Encoding::kRaw, TensorProto::kScomplexValFieldNumber};
    case tensorflow::DT_COMPLEX128:
      return {Encoding::kRaw, TensorProto::kDcomplexValFieldNumber};
    case tensorflow::DT_BOOL:
      return {Encoding::kBools, TensorProto::kBoolValFieldNumber};
    case tensorflow::DT_INT32:
      return {Encoding::kVarint, TensorProto::kIntValFieldNumber};
    case tensorflow::DT_INT64:
      return {Encoding::kVarint, TensorProto::kInt64ValFieldNumber};
    case tensorflow::DT_STRING:
      return {Encoding::kStrings, TensorProto::kStringValFieldNumber};
    default:
      return {Encoding::kByProtobuf, 0};
  }
}

// Calls `visit` with every element as the varint that it is on the wire.
template <typename Visit>
void ForEachVarint(const Tensor& tensor, Visit visit) {
  if (tensor.dtype() == tensorflow::DT_INT32) {
    auto flat = tensor.flat<std::int32_t>();
    for (std::int64_t i = 0; i < flat.size(); ++i)
      visit(static_cast<std::uint64_t>(static_cast<std::int64_t>(flat(i))));
  } else {
    auto flat = tensor.flat<std::int64_t>();
    for (std::int64_t i = 0; i < flat.size(); ++i) visit(static_cast<std::uint64_t>(flat(i)));
  }
}

std::size_t DimSize(std::int64_t size) {
  return size == 0 ? 0 : 1 + VarintSize(static_cast<std::uint64_t>(size));
}

}  // namespace

PredictReply::PredictReply(const ServableId& id, const Signature& signature, absl::Span<const int> wanted,
                           const std::vector<Tensor>& outputs, bool tensor_content)
    : id_(id), signature_(signature), wanted_(wanted), outputs_(outputs), tensor_content_(tensor_content) {}

absl::Status PredictReply::Measure(std::size_t* size) {
  *size = 0;
  sizes_.resize(outputs_.size());
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const Tensor& tensor = outputs_[i];
    Sizes& sizes = sizes_[i];
    const Layout layout = LayoutOf(tensor.dtype(), tensor_content_);
    if (layout.encoding == Encoding::kByProtobuf) {
      TensorProto proto;
      if (tensor_content_) {
        tensor.AsProtoTensorContent(&proto);
      } else {
        tensor.AsProtoField(&proto);
      }
      sizes.encoded = proto.SerializeAsString();
      sizes.tensor = sizes.encoded.size();
    } else {
      sizes.shape = 0;
      for (int d = 0; d < tensor.dims(); ++d) sizes.shape += FieldSize(DimSize(tensor.dim_size(d)));
      sizes.data = 0;
      switch (layout.encoding) {
        case Encoding::kVarint:
          ForEachVarint(tensor, [&sizes](std::uint64_t value) { sizes.data += VarintSize(value); });
          break;
        case Encoding::kStrings: {
          auto flat = tensor.flat<tensorflow::tstring>();
          for (std::int64_t k = 0; k < flat.size(); ++k) sizes.data += FieldSize(flat(k).size());
          break;
        }
        default:
          sizes.data = tensor.TotalBytes();
      }
      sizes.tensor = 1 + VarintSize(tensor.dtype()) + FieldSize(sizes.shape);
      if (sizes.data > 0)
        sizes.tensor += layout.encoding == Encoding::kStrings ? sizes.data : FieldSize(sizes.data);
    }
    sizes.entry = FieldSize(signature_.outputs[wanted_[i]].alias.size()) + FieldSize(sizes.tensor);
    *size += FieldSize(sizes.entry);
  }
  const std::size_t version_size =
      id_.version == 0 ? 0 : 1 + VarintSize(static_cast<std::uint64_t>(id_.version));
  spec_size_ = FieldSize(id_.name.size()) + FieldSize(version_size) + FieldSize(signature_.name.size());
  *size += FieldSize(spec_size_);
  if (*size > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return absl::InvalidArgumentError(
        absl::StrCat("The reply would take ", *size, " bytes, more than the 2 GiB that a message can have"));
  }
  return absl::OkStatus();
}

void PredictReply::Write(void* bytes) const {
  auto* out = static_cast<std::uint8_t*>(bytes);
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const Tensor& tensor = outputs_[i];
    const Sizes& sizes = sizes_[i];
    out = WriteHead(1, sizes.entry, out);
    out = WriteBytes(1, signature_.outputs[wanted_[i]].alias, out);
    const Layout layout = LayoutOf(tensor.dtype(), tensor_content_);
    if (layout.encoding == Encoding::kByProtobuf) {
      out = WriteBytes(2, sizes.encoded, out);
      continue;
    }
    out = WriteHead(2, sizes.tensor, out);
    out = CodedOutputStream::WriteVarint32ToArray(Tag(TensorProto::kDtypeFieldNumber, kVarint), out);
    out = CodedOutputStream::WriteVarint32ToArray(tensor.dtype(), out);
    out = WriteHead(TensorProto::kTensorShapeFieldNumber, sizes.shape, out);
    for (int d = 0; d < tensor.dims(); ++d) {
      out = WriteHead(2, DimSize(tensor.dim_size(d)), out);
      if (tensor.dim_size(d) == 0) continue;
      out = CodedOutputStream::WriteVarint32ToArray(Tag(1, kVarint), out);
      out = CodedOutputStream::WriteVarint64ToArray(tensor.dim_size(d), out);
    }
    if (sizes.data == 0) continue;
    switch (layout.encoding) {
      case Encoding::kVarint:
        out = WriteHead(layout.field, sizes.data, out);
        ForEachVarint(tensor, [&out](std::uint64_t value) {
          out = CodedOutputStream::WriteVarint64ToArray(value, out);
        });
        break;
      case Encoding::kBools: {
        // A kernel may have left any byte there; on the wire it would be the beginning of a varint.
        const auto* bytes = static_cast<const std::uint8_t*>(tensor.data());
        out = WriteHead(layout.field, sizes.data, out);
        for (std::size_t k = 0; k < sizes.data; ++k) *out++ = bytes[k] != 0;
        break;
      }
      case Encoding::kStrings: {
        auto flat = tensor.flat<tensorflow::tstring>();
        for (std::int64_t k = 0; k < flat.size(); ++k) out = WriteBytes(layout.field, flat(k), out);
        break;
      }
      default:
        out = WriteHead(layout.field, sizes.data, out);
        std::memcpy(out, tensor.tensor_data().data(), sizes.data);
        out += sizes.data;
    }
  }
  out = WriteHead(2, spec_size_, out);
  out = WriteBytes(1, id_.name, out);
  out = WriteHead(2, id_.version == 0 ? 0 : 1 + VarintSize(static_cast<std::uint64_t>(id_.version)), out);
  if (id_.version != 0) {
    out = CodedOutputStream::WriteVarint32ToArray(Tag(1, kVarint), out);
    out = CodedOutputStream::WriteVarint64ToArray(static_cast<std::uint64_t>(id_.version), out);
  }
  WriteBytes(3, signature_.name, out);
}

}  // namespace tfipu::serving
