#include "serving/api/tensor_wire.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "serving/api/wire_reader.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using tensorflow::DataType;
using tensorflow::Tensor;
using tensorflow::TensorProto;
using tensorflow::TensorShape;
using tensorflow::tstring;

constexpr std::uint32_t kContentTag = Tag(TensorProto::kTensorContentFieldNumber, kBytes);

// How a type's values are written, and in which field.
enum class Encoding { kNone, kFixed32, kFixed64, kVarint, kString };
struct Layout {
  Encoding encoding;
  int field;
  int per_element;  // numbers that make an element
};

Layout LayoutOf(DataType dtype) {
  switch (dtype) {
    case tensorflow::DT_FLOAT:
      return {Encoding::kFixed32, TensorProto::kFloatValFieldNumber, 1};
    case tensorflow::DT_DOUBLE:
      return {Encoding::kFixed64, TensorProto::kDoubleValFieldNumber, 1};
    case tensorflow::DT_COMPLEX64:
      return {Encoding::kFixed32, TensorProto::kScomplexValFieldNumber, 2};
    case tensorflow::DT_COMPLEX128:
      return {Encoding::kFixed64, TensorProto::kDcomplexValFieldNumber, 2};
    case tensorflow::DT_STRING:
      return {Encoding::kString, TensorProto::kStringValFieldNumber, 1};
    case tensorflow::DT_INT64:
      return {Encoding::kVarint, TensorProto::kInt64ValFieldNumber, 1};
    case tensorflow::DT_UINT64:
      return {Encoding::kVarint, TensorProto::kUint64ValFieldNumber, 1};
    case tensorflow::DT_UINT32:
      return {Encoding::kVarint, TensorProto::kUint32ValFieldNumber, 1};
    case tensorflow::DT_BOOL:
      return {Encoding::kVarint, TensorProto::kBoolValFieldNumber, 1};
    case tensorflow::DT_HALF:
    case tensorflow::DT_BFLOAT16:
      return {Encoding::kVarint, TensorProto::kHalfValFieldNumber, 1};
    case tensorflow::DT_INT32:
    case tensorflow::DT_INT16:
    case tensorflow::DT_INT8:
    case tensorflow::DT_UINT16:
    case tensorflow::DT_UINT8:
    case tensorflow::DT_QINT32:
    case tensorflow::DT_QINT16:
    case tensorflow::DT_QINT8:
    case tensorflow::DT_QUINT16:
    case tensorflow::DT_QUINT8:
      return {Encoding::kVarint, TensorProto::kIntValFieldNumber, 1};
    default:
      return {Encoding::kNone, 0, 1};
  }
}

int Width(Encoding encoding) { return encoding == Encoding::kFixed32 ? 4 : 8; }

WireFormatLite::WireType WireTypeOf(Encoding encoding) {
  return encoding == Encoding::kFixed32   ? WireFormatLite::WIRETYPE_FIXED32
         : encoding == Encoding::kFixed64 ? WireFormatLite::WIRETYPE_FIXED64
                                          : kVarint;
}

std::string TypeName(DataType dtype) {
  return tensorflow::DataType_IsValid(dtype) ? tensorflow::DataTypeString(dtype)
                                             : absl::StrCat("number ", static_cast<int>(dtype));
}

absl::Status Malformed() {
  return absl::InternalError("The request is not a PredictRequest: a tensor's values are malformed");
}

absl::Status NoMemory(std::size_t bytes) {
  return absl::ResourceExhaustedError(absl::StrCat("There is no memory for a tensor of ", bytes, " bytes"));
}

// What a string of that length takes beside its object, as an allocator rounds it.
std::int64_t HeapBytes(std::int64_t length) {
  constexpr std::int64_t kInline = 22;
  return length <= kInline ? 0 : length + 32;
}

std::size_t Saturated(unsigned __int128 bytes) {
  constexpr auto kMost = std::numeric_limits<std::size_t>::max();
  return bytes > kMost ? kMost : static_cast<std::size_t>(bytes);
}

// Whether there is memory for strings, which do not survive that there is none.
bool IsThereMemory(std::size_t bytes) {
  constexpr std::size_t kSmall = 1 << 20;
  if (bytes <= kSmall) return true;
  void* const memory = std::malloc(bytes);
  std::free(memory);
  return memory != nullptr;
}

// Calls `value` with each number of a field behind its tag, packed or not. False when it is malformed.
template <typename Value>
bool ForEachVarint(CodedInputStream* input, std::uint32_t tag, Value value) {
  std::uint64_t number;
  if (WireFormatLite::GetTagWireType(tag) == kVarint) {
    if (!input->ReadVarint64(&number)) return false;
    value(number);
    return true;
  }
  Nested packed(input);
  if (!packed.ok()) return false;
  while (!packed.AtEnd()) {
    if (!input->ReadVarint64(&number)) return false;
    value(number);
  }
  return true;
}

// Raw bytes of one field behind its tag, as many as there is room for; the rest is skipped, as in TensorFlow.
bool ReadFixed(CodedInputStream* input, std::uint32_t tag, int width, char** to, std::int64_t* room) {
  int length = width;
  if (WireFormatLite::GetTagWireType(tag) == kBytes && !ReadLength(input, &length)) return false;
  const int fits = static_cast<int>(std::min<std::int64_t>(length, *room));
  if (!input->ReadRaw(*to, fits) || !input->Skip(length - fits)) return false;
  *to += fits;
  *room -= fits;
  return true;
}

// Copies the last of `given` elements until there are `all`; none are zeros.
void Repeat(char* data, std::int64_t given, std::int64_t all, std::int64_t element_size) {
  if (given == 0) {
    std::memset(data, 0, all * element_size);
    return;
  }
  // Each copy doubles what there is.
  char* const last = data + (given - 1) * element_size;
  char* const end = data + all * element_size;
  for (char* p = last + element_size; p < end;) {
    const std::int64_t run = std::min<std::int64_t>(p - last, end - p);
    std::memcpy(p, last, run);
    p += run;
  }
}

// Makes every byte of a bool tensor 0 or 1: raw bytes from a client may be anything, which no kernel expects.
void NormalizeBools(Tensor* tensor) {
  auto* bytes = static_cast<std::uint8_t*>(tensor->data());
  for (std::size_t i = 0; i < tensor->TotalBytes(); ++i) bytes[i] = bytes[i] != 0;
}

bool IsField(std::uint32_t tag, const Layout& layout) {
  if (WireFormatLite::GetTagFieldNumber(tag) != layout.field) return false;
  const auto type = WireFormatLite::GetTagWireType(tag);
  return type == kBytes || (layout.encoding != Encoding::kString && type == WireTypeOf(layout.encoding));
}

bool ReadFixedValues(CodedInputStream* input, const Layout& layout, Tensor* tensor) {
  char* const data = static_cast<char*>(tensor->data());
  const int width = Width(layout.encoding);
  const std::int64_t element_size = width * layout.per_element;
  char* to = data;
  std::int64_t room = tensor->NumElements() * element_size;
  while (input->BytesUntilLimit() > 0) {
    const std::uint32_t tag = input->ReadTag();
    if (!(IsField(tag, layout) ? ReadFixed(input, tag, width, &to, &room) : SkipField(input, tag)))
      return false;
  }
  if (room > 0) Repeat(data, (to - data) / element_size, tensor->NumElements(), element_size);
  return true;
}

// Integers are cut to their size, as protobuf and TensorFlow do; a bool is whatever is not 0.
template <typename T>
bool ReadVarints(CodedInputStream* input, const Layout& layout, Tensor* tensor) {
  auto* const data = static_cast<T*>(tensor->data());
  const std::int64_t elements = tensor->NumElements();
  const bool is_bool = tensor->dtype() == tensorflow::DT_BOOL;
  std::int64_t i = 0;
  while (input->BytesUntilLimit() > 0) {
    const std::uint32_t tag = input->ReadTag();
    if (!IsField(tag, layout)) {
      if (!SkipField(input, tag)) return false;
    } else if (!ForEachVarint(input, tag, [&](std::uint64_t number) {
                 if (i < elements) data[i++] = static_cast<T>(is_bool ? number != 0 : number);
               })) {
      return false;
    }
  }
  if (i < elements) Repeat(reinterpret_cast<char*>(data), i, elements, sizeof(T));
  return true;
}

bool ReadStrings(CodedInputStream* input, const Layout& layout, Tensor* tensor) {
  auto* const data = static_cast<tstring*>(tensor->data());
  const std::int64_t elements = tensor->NumElements();
  std::int64_t i = 0;
  while (input->BytesUntilLimit() > 0) {
    const std::uint32_t tag = input->ReadTag();
    if (!IsField(tag, layout) || i == elements) {
      if (!SkipField(input, tag)) return false;
      continue;
    }
    int length = 0;
    if (!ReadLength(input, &length)) return false;
    data[i].resize_uninitialized(length);
    if (!input->ReadRaw(data[i].mdata(), length)) return false;
    ++i;
  }
  for (std::int64_t last = i - 1; last >= 0 && i < elements; ++i) data[i] = data[last];
  return true;
}

}  // namespace

bool IsWireType(DataType dtype) { return LayoutOf(dtype).encoding != Encoding::kNone; }

bool WireTensor::Scan(CodedInputStream* input, DataType wanted) {
  wanted_ = wanted;
  while (input->BytesUntilLimit() > 0) {
    const std::uint32_t tag = input->ReadTag();
    switch (tag) {
      case Tag(TensorProto::kDtypeFieldNumber, kVarint): {
        std::uint64_t value;
        if (!input->ReadVarint64(&value)) return false;
        dtype_ = static_cast<DataType>(value);
        break;
      }
      case Tag(TensorProto::kTensorShapeFieldNumber, kBytes):
        if (!ScanShape(input)) return false;
        break;
      case kContentTag: {
        int length = 0;
        if (!ReadLength(input, &length) || !input->Skip(length)) return false;
        content_bytes_ = length;
        break;
      }
      default:
        if (!ScanValues(input, tag)) return false;
    }
  }
  return true;
}

bool WireTensor::ScanShape(CodedInputStream* input) {
  // `unknown_rank` is skipped: as in TensorFlow, the sizes that are there are the tensor's shape.
  Nested shape(input);
  if (!shape.ok()) return false;
  while (!shape.AtEnd()) {
    const std::uint32_t tag = input->ReadTag();
    if (tag != Tag(2, kBytes)) {
      if (!SkipField(input, tag)) return false;
      continue;
    }
    Nested dim(input);
    if (!dim.ok()) return false;
    std::uint64_t size = 0;
    while (!dim.AtEnd()) {
      const std::uint32_t field = input->ReadTag();
      if (field == Tag(1, kVarint)) {
        if (!input->ReadVarint64(&size)) return false;
      } else if (field == Tag(2, kBytes)) {
        std::string name;
        if (!ReadString(input, &name)) return false;
      } else if (!SkipField(input, field)) {
        return false;
      }
    }
    // One more than is allowed is enough to refuse it later.
    if (dims_.size() <= TensorShape::MaxDimensions()) dims_.push_back(static_cast<std::int64_t>(size));
  }
  return true;
}

bool WireTensor::ScanValues(CodedInputStream* input, std::uint32_t tag) {
  const Layout layout = LayoutOf(wanted_);
  if (!IsField(tag, layout)) return SkipField(input, tag);
  if (WireFormatLite::GetTagWireType(tag) != kBytes) {
    ++given_;
    return SkipField(input, tag);
  }
  int length = 0;
  if (!ReadLength(input, &length) || !input->Skip(length)) return false;
  switch (layout.encoding) {
    case Encoding::kString:
      ++given_;
      last_string_bytes_ = HeapBytes(length);
      string_bytes_ += last_string_bytes_;
      return true;
    case Encoding::kVarint:
      given_ += length;
      return true;
    default:
      given_ += length / Width(layout.encoding);
      return length % Width(layout.encoding) == 0;
  }
}

absl::Status WireTensor::Check(std::size_t max_repeated) {
  if (!IsWireType(dtype_)) {
    return absl::InvalidArgumentError(absl::StrCat("A tensor of type ", TypeName(dtype_), " cannot be sent"));
  }
  if (dtype_ != wanted_) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected to be ", TypeName(wanted_), " but ", TypeName(dtype_), " is provided"));
  }
  absl::Status status = TensorShape::BuildTensorShape(absl::MakeConstSpan(dims_), &shape_);
  if (!status.ok()) return status;

  const std::int64_t elements = shape_.num_elements();
  const bool strings = dtype_ == tensorflow::DT_STRING;
  const std::int64_t element_size = strings ? sizeof(tstring) : tensorflow::DataTypeSize(dtype_);
  const auto held = static_cast<unsigned __int128>(elements) * element_size;
  if (elements == 0) return absl::OkStatus();
  if (content_bytes_ > 0) {
    // A string takes a byte of its length at least.
    if (strings ? elements > content_bytes_ : held != content_bytes_) {
      return absl::InvalidArgumentError(absl::StrCat("tensor_content has ", content_bytes_,
                                                     " bytes, which do not fit a tensor of type ",
                                                     TypeName(dtype_), " and shape ", shape_.DebugString()));
    }
    held_bytes_ = Saturated(held + (strings ? 2 * content_bytes_ : 0));
    return absl::OkStatus();
  }
  const std::int64_t given = given_ / LayoutOf(dtype_).per_element;
  const std::int64_t repeated = std::max<std::int64_t>(elements - given, 0);
  repeated_bytes_ = Saturated(static_cast<unsigned __int128>(repeated) * (element_size + last_string_bytes_));
  held_bytes_ =
      Saturated(held + string_bytes_ + static_cast<unsigned __int128>(repeated) * last_string_bytes_);
  if (repeated_bytes_ > max_repeated) {
    return absl::InvalidArgumentError(absl::StrCat(
        "A tensor of type ", TypeName(dtype_), " and shape ", shape_.DebugString(), " has fewer values than ",
        elements, ", and repeating the last one would take ", repeated_bytes_, " bytes; only ", max_repeated,
        " bytes of this request may come from that"));
  }
  return absl::OkStatus();
}

absl::Status WireTensor::Read(CodedInputStream* input, Tensor* tensor) const {
  const Layout layout = LayoutOf(dtype_);
  Tensor made;
  if (!IsThereMemory(layout.encoding == Encoding::kString ? held_bytes_ : 0)) return NoMemory(held_bytes_);
  made = Tensor(dtype_, shape_);
  bool ok = true;
  if (made.NumElements() == 0) {
    *tensor = std::move(made);
    return absl::OkStatus();
  }
  if (!made.IsInitialized()) return NoMemory(held_bytes_);
  if (content_bytes_ > 0) {
    if (!ReadContent(input, &made)) {
      return absl::InvalidArgumentError(absl::StrCat("tensor_content does not hold the ", made.NumElements(),
                                                     " strings that its shape ", shape_.DebugString(),
                                                     " promises"));
    }
  } else if (layout.encoding == Encoding::kString) {
    ok = ReadStrings(input, layout, &made);
  } else if (layout.encoding != Encoding::kVarint) {
    ok = ReadFixedValues(input, layout, &made);
  } else {
    switch (tensorflow::DataTypeSize(dtype_)) {
      case 1:
        ok = ReadVarints<std::uint8_t>(input, layout, &made);
        break;
      case 2:
        ok = ReadVarints<std::uint16_t>(input, layout, &made);
        break;
      case 4:
        ok = ReadVarints<std::uint32_t>(input, layout, &made);
        break;
      default:
        ok = ReadVarints<std::uint64_t>(input, layout, &made);
    }
  }
  if (!ok) return Malformed();
  *tensor = std::move(made);
  return absl::OkStatus();
}

bool WireTensor::ReadContent(CodedInputStream* input, Tensor* tensor) const {
  const bool strings = dtype_ == tensorflow::DT_STRING;
  TensorProto proto;
  while (input->BytesUntilLimit() > 0) {
    const std::uint32_t tag = input->ReadTag();
    int length = 0;
    // The last of several counts.
    if (tag != kContentTag) {
      if (!SkipField(input, tag)) return false;
    } else if (!ReadLength(input, &length)) {
      return false;
    } else if (length != content_bytes_) {
      if (!input->Skip(length)) return false;
    } else if (strings ? !input->ReadString(proto.mutable_tensor_content(), length)
                       : !input->ReadRaw(tensor->data(), length)) {
      return false;
    }
  }
  if (dtype_ == tensorflow::DT_BOOL) NormalizeBools(tensor);
  if (!strings) return true;
  proto.set_dtype(dtype_);
  shape_.AsProto(proto.mutable_tensor_shape());
  return tensor->FromProto(proto);
}

}  // namespace tfipu::serving
