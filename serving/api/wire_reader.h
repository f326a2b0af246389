// Reading protobuf's wire format by hand.
#ifndef SERVING_API_WIRE_READER_H_
#define SERVING_API_WIRE_READER_H_

#include <cstdint>
#include <optional>
#include <string>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "serving/api/error_text.h"

namespace tfipu::serving {

constexpr auto kVarint = google::protobuf::internal::WireFormatLite::WIRETYPE_VARINT;
constexpr auto kBytes = google::protobuf::internal::WireFormatLite::WIRETYPE_LENGTH_DELIMITED;

constexpr std::uint32_t Tag(int field, google::protobuf::internal::WireFormatLite::WireType type) {
  return static_cast<std::uint32_t>(field) << 3 | type;
}

// Reads a length and makes it the limit of what follows, as long as the object lives.
class Nested {
 public:
  explicit Nested(google::protobuf::io::CodedInputStream* input) : input_(input) {
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
  google::protobuf::io::CodedInputStream* const input_;
  std::optional<google::protobuf::io::CodedInputStream::Limit> limit_;
  bool ok_;
};

// Skips what follows a tag; false at the end of a group or message, too.
inline bool SkipField(google::protobuf::io::CodedInputStream* input, std::uint32_t tag) {
  return tag != 0 && google::protobuf::internal::WireFormatLite::SkipField(input, tag);
}

// A length that fits into what is left.
inline bool ReadLength(google::protobuf::io::CodedInputStream* input, int* length) {
  if (!input->ReadVarintSizeAsInt(length)) return false;
  const int left = input->BytesUntilLimit();
  return left < 0 || *length <= left;
}

// A field of type `string`, which is UTF-8.
inline bool ReadString(google::protobuf::io::CodedInputStream* input, std::string* value) {
  int length = 0;
  return ReadLength(input, &length) && input->ReadString(value, length) && IsUtf8(*value);
}

}  // namespace tfipu::serving

#endif  // SERVING_API_WIRE_READER_H_
