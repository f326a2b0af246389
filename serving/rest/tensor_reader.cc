#include "serving/rest/tensor_reader.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "serving/json/float_run.h"
#include "serving/json/number.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.h"

namespace tfipu::serving {
namespace {

using tensorflow::DataType;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::tstring;

template <class T>
constexpr bool kIsHalf = std::is_same_v<T, Eigen::half> || std::is_same_v<T, tensorflow::bfloat16>;
template <class T>
constexpr bool kIsFloating = std::is_floating_point_v<T> || kIsHalf<T>;

// A value that is not of the type: says which, or that it is not JSON at all.
bool FailType(json::Reader* reader, DataType dtype) {
  reader->SkipSpace();
  const char* const start = reader->cursor();
  if (!reader->SkipValue()) return false;
  absl::string_view value(start, reader->cursor() - start);
  const bool cut = value.size() > 60;
  reader->set_cursor(start);
  return reader->Fail(absl::StrCat("JSON Value: ", value.substr(0, 60), cut ? "..." : "",
                                   " is not of expected type: ", tensorflow::DataTypeString(dtype)));
}

// The value of a scanned number of `length` characters; false when it is not an integer or beyond T's range.
template <class T>
bool IntegerValue(const json::Number& number, std::ptrdiff_t length, char first, T* value) {
  if (!number.integer) return false;
  if (number.negative) {
    // The smallest value's magnitude is one more than the largest value's, or zero when unsigned.
    const std::uint64_t limit =
        std::is_signed_v<T> ? static_cast<std::uint64_t>(std::numeric_limits<T>::max()) + 1 : 0;
    *value = static_cast<T>(0 - number.digits);
    return number.exact && number.digits <= limit;
  }
  *value = static_cast<T>(number.digits);
  // Twenty digits may fit an uint64: those that begin with 1 and did not wrap around.
  const bool known = number.exact || (length == 20 && first == '1' && number.digits >= 10000000000000000000u);
  return known && number.digits <= static_cast<std::uint64_t>(std::numeric_limits<T>::max());
}

// Reads one element at the cursor. The common forms are tried first; what they do not take is for the reader
// to judge.
template <class T>
bool ReadElement(json::Reader* reader, DataType dtype, std::string* scratch, T* out) {
  if constexpr (std::is_same_v<T, bool>) {
    const char c = reader->Peek();
    if (c != 't' && c != 'f') return FailType(reader, dtype);
    return reader->ReadBool(out);
  } else if constexpr (std::is_same_v<T, tstring>) {
    const char c = reader->Peek();
    if (c != '"' && c != '{') return FailType(reader, dtype);
    absl::string_view value;
    if (!ReadBytes(reader, scratch, &value)) return false;
    out->assign(value.data(), value.size());
    return true;
  } else {
    json::Number number;
    const char* const start = reader->cursor();
    const char* const end = json::ScanNumber(start, reader->end(), &number);
    if constexpr (kIsFloating<T>) {
      using Parsed = std::conditional_t<std::is_same_v<T, double>, double, float>;
      Parsed value;
      if (end != nullptr && json::NumberValue(start, end, number, &value)) {
        *out = static_cast<T>(value);
        reader->set_cursor(end);
        return true;
      }
      const char c = reader->Peek();
      if (c != '-' && c != 'N' && c != 'I' && !json::number_internal::IsDigit(c))
        return FailType(reader, dtype);
      double special;  // NaN, infinities, and the right words for the rest
      if (!reader->ReadNumber(&special, nullptr, nullptr)) return false;
      *out = static_cast<T>(static_cast<Parsed>(special));
      return true;
    } else {
      if (end == nullptr || !number.integer) return FailType(reader, dtype);
      if (!IntegerValue(number, end - start, *start, out)) {
        return reader->Fail(
            absl::StrCat("JSON Value: ", absl::string_view(start, std::min<std::ptrdiff_t>(end - start, 40)),
                         " is out of range for type: ", tensorflow::DataTypeString(dtype)));
      }
      reader->set_cursor(end);
      return true;
    }
  }
}

template <class T>
class TypedReader final : public TensorReader {
 public:
  explicit TypedReader(DataType dtype) : dtype_(dtype) {}

  bool Append(json::Reader* reader) override;
  absl::Status Finish(bool rows, Tensor* tensor) override;

 private:
  static constexpr bool kPlain = !std::is_same_v<T, tstring>;
  static constexpr std::size_t kInline = kPlain ? 256 / sizeof(T) : 4;

  void ReadRun(json::Reader* reader);
  bool Grow(json::Reader* reader);
  bool CloseArray(json::Reader* reader, int depth, std::int64_t count);

  const DataType dtype_;
  const char* start_ = nullptr;  // of the first value
  // Few elements are gathered here, more in `memory_`, a vector that becomes the tensor.
  T inline_[kInline];
  T* data_ = inline_;
  std::size_t size_ = 0;
  std::size_t capacity_ = kInline;
  Tensor memory_;
  std::string scratch_;
};

// Reads numbers of the usual form as long as each is followed by a comma and there is room, and leaves what
// is next to others.
template <class T>
void TypedReader<T>::ReadRun(json::Reader* reader) {
  const char* p = reader->cursor();
  const char* const end = reader->end();
  T* out = data_ + size_;
  T* const out_end = data_ + capacity_;
  if constexpr (std::is_same_v<T, float>) {
    p = json::ReadFloatRun(p, end, &out, out_end);
  } else {
    while (out != out_end) {
      json::Number number;
      const char* const number_end = json::ScanNumber(p, end, &number);
      if (number_end == nullptr || number_end == end || *number_end != ',') break;
      if constexpr (std::is_floating_point_v<T>) {
        if (!json::NumberValue(p, number_end, number, out)) break;
      } else {
        if (!IntegerValue(number, number_end - p, *p, out)) break;
      }
      ++out;
      p = number_end + 1;
      if (p != end && *p == ' ') ++p;
    }
  }
  size_ = out - data_;
  reader->set_cursor(p);
  reader->SkipSpace();
}

template <class T>
bool TypedReader<T>::Grow(json::Reader* reader) {
  // Guess the rest from what the elements so far took of the text; each takes two characters at least.
  const std::size_t done = reader->cursor() - start_ + 1;
  const std::size_t left = reader->end() - reader->cursor();
  const double guess =
      static_cast<double>(size_) * static_cast<double>(left) / static_cast<double>(done) * 1.02 + 64;
  const std::size_t more = std::max<std::size_t>(size_, static_cast<std::size_t>(guess));
  const std::size_t capacity = size_ + std::min(more, left / 2 + 1);
  Tensor grown(dtype_, TensorShape({static_cast<std::int64_t>(capacity)}));
  if (!grown.IsInitialized()) return reader->Fail("Out of memory for the input");
  T* const data = static_cast<T*>(grown.data());
  if constexpr (kPlain) {
    std::memcpy(data, data_, size_ * sizeof(T));
  } else {
    std::move(data_, data_ + size_, data);
  }
  memory_ = std::move(grown);
  data_ = data;
  capacity_ = capacity;
  return true;
}

template <class T>
bool TypedReader<T>::CloseArray(json::Reader* reader, int depth, std::int64_t count) {
  if (static_cast<std::size_t>(depth) > dims_.size()) dims_.resize(depth, kUnknown);
  std::int64_t& dim = dims_[depth - 1];
  if (dim == kUnknown) {
    dim = count;
    // An empty array ends the nesting just as a scalar does.
    if (count == 0 && rank_ < 0) rank_ = depth;
  }
  if (dim != count || (count == 0 && depth != rank_)) {
    return reader->Fail(
        absl::StrCat("Expecting tensor size: ", dim, " but got: ", count, " (arrays must be rectangular)"));
  }
  return true;
}

template <class T>
bool TypedReader<T>::Append(json::Reader* reader) {
  if (!reader->ok()) return false;
  if (start_ == nullptr) start_ = reader->cursor();
  std::int64_t counts[TensorShape::MaxDimensions() + 1];
  int depth = 0;
  const int max_depth = std::min(reader->depth_left(), TensorShape::MaxDimensions());
  while (true) {
    char c = reader->Peek();
    if (c == '[') {
      if (depth == max_depth) {
        return reader->Fail(absl::StrCat("Arrays lie deeper in each other than the limit of ", max_depth));
      }
      if (rank_ >= 0 && depth >= rank_)
        return reader->Fail("Expecting a value but got an array (arrays must be rectangular)");
      reader->set_cursor(reader->cursor() + 1);
      counts[depth++] = 0;
      if (reader->Peek() != ']') continue;
    } else {
      if (rank_ < 0) rank_ = depth;
      if (depth != rank_) {
        return c == '\0' || c == ']'
                   ? reader->Fail("Expected a value")
                   : reader->Fail("Expecting an array but got a value (arrays must be rectangular)");
      }
      // The innermost array is read in one go.
      std::int64_t count = 0;
      while (true) {
        if (size_ == capacity_ && !Grow(reader)) return false;
        if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
          if (depth > 0) {
            const std::size_t before = size_;
            ReadRun(reader);
            count += size_ - before;
            if (size_ == capacity_ && !Grow(reader)) return false;
          }
        }
        if (!ReadElement<T>(reader, dtype_, &scratch_, data_ + size_)) return false;
        ++size_;
        ++count;
        if (depth == 0) {
          ++appended_;
          return true;
        }
        if (reader->Peek() != ',') break;
        reader->set_cursor(reader->cursor() + 1);
        reader->SkipSpace();
      }
      counts[depth - 1] = count;
    }
    // After an element of the array at `depth`.
    while (true) {
      c = reader->Peek();
      if (c == ',') {
        reader->set_cursor(reader->cursor() + 1);
        break;
      }
      if (c != ']') return reader->Fail("Expected ',' or ']' after an array's element");
      if (!CloseArray(reader, depth, counts[depth - 1])) return false;
      reader->set_cursor(reader->cursor() + 1);
      if (--depth == 0) {
        ++appended_;
        return true;
      }
      ++counts[depth - 1];
    }
  }
}

template <class T>
absl::Status TypedReader<T>::Finish(bool rows, Tensor* tensor) {
  TensorShape shape;
  if (rows) shape.AddDim(appended_);
  if (rank_ + (rows ? 1 : 0) > TensorShape::MaxDimensions()) {
    return absl::InvalidArgumentError(
        absl::StrCat("A tensor has at most ", TensorShape::MaxDimensions(), " dimensions"));
  }
  for (int i = 0; i < rank_; ++i) shape.AddDim(dims_[i]);
  if (data_ == inline_ || capacity_ > size_ + size_ / 2) {
    *tensor = Tensor(dtype_, shape);
    if (!tensor->IsInitialized() && size_ > 0)
      return absl::ResourceExhaustedError("Out of memory for the input");
    T* const data = static_cast<T*>(tensor->data());
    if constexpr (kPlain) {
      if (size_ > 0) std::memcpy(data, data_, size_ * sizeof(T));
    } else {
      std::move(data_, data_ + size_, data);
    }
    return absl::OkStatus();
  }
  const Tensor used = size_ == capacity_ ? memory_ : memory_.Slice(0, static_cast<std::int64_t>(size_));
  if (!tensor->CopyFrom(used, shape)) return absl::InternalError("An input's shape and size differ");
  return absl::OkStatus();
}

template <class T>
std::unique_ptr<TensorReader> Make(DataType dtype) {
  return std::make_unique<TypedReader<T>>(dtype);
}

}  // namespace

bool ReadBytes(json::Reader* reader, std::string* decoded, absl::string_view* value) {
  if (reader->Peek() == '"') return reader->ReadString(value);
  absl::string_view key;
  if (!reader->Enter('{')) return false;
  const bool member = reader->NextMember(&key);
  if (!reader->ok()) return false;
  absl::string_view text;
  if (!member || key != "b64" || reader->Peek() != '"') {
    return reader->Fail("JSON object not formatted correctly for base64 data, expected {\"b64\": \"...\"}");
  }
  if (!reader->ReadString(&text)) return false;
  if (!absl::Base64Unescape(text, decoded)) return reader->Fail("Unable to base64 decode");
  if (reader->NextMember(&key)) {
    return reader->Fail(
        "JSON object not formatted correctly for base64 data, expected {\"b64\": \"...\"} and no more");
  }
  *value = *decoded;
  return reader->ok();
}

absl::StatusOr<std::unique_ptr<TensorReader>> TensorReader::Create(DataType dtype) {
  switch (dtype) {
    case tensorflow::DT_FLOAT:
      return Make<float>(dtype);
    case tensorflow::DT_DOUBLE:
      return Make<double>(dtype);
    case tensorflow::DT_HALF:
      return Make<Eigen::half>(dtype);
    case tensorflow::DT_BFLOAT16:
      return Make<tensorflow::bfloat16>(dtype);
    case tensorflow::DT_INT8:
      return Make<std::int8_t>(dtype);
    case tensorflow::DT_INT16:
      return Make<std::int16_t>(dtype);
    case tensorflow::DT_INT32:
      return Make<std::int32_t>(dtype);
    case tensorflow::DT_INT64:
      return Make<std::int64_t>(dtype);
    case tensorflow::DT_UINT8:
      return Make<std::uint8_t>(dtype);
    case tensorflow::DT_UINT16:
      return Make<std::uint16_t>(dtype);
    case tensorflow::DT_UINT32:
      return Make<std::uint32_t>(dtype);
    case tensorflow::DT_UINT64:
      return Make<std::uint64_t>(dtype);
    case tensorflow::DT_BOOL:
      return Make<bool>(dtype);
    case tensorflow::DT_STRING:
      return Make<tstring>(dtype);
    default:
      return absl::UnimplementedError(absl::StrCat(
          "Conversion of JSON Value to type: ", tensorflow::DataTypeString(dtype), " is not supported"));
  }
}

}  // namespace tfipu::serving
