#include "serving/api/predict_reply.h"

#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "serving/api/wire_reader.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {
namespace {

using google::protobuf::io::CodedOutputStream;
using tensorflow::DataType;
using tensorflow::Tensor;
using tensorflow::TensorProto;

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
