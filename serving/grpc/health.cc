#include "serving/grpc/health.h"

#include <cstdint>
#include <cstring>

namespace tfipu::serving {
namespace {

bool ReadVarint(std::string_view* bytes, std::uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64 && !bytes->empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes->front());
    bytes->remove_prefix(1);
    *value |= std::uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

}  // namespace

std::optional<std::string> Health::ParseRequest(const std::vector<Slice>& slices) {
  std::string all;
  for (const Slice& slice : slices) all.append(static_cast<const char*>(slice.data), slice.size);
  std::string_view bytes = all;
  std::string service;
  while (!bytes.empty()) {
    std::uint64_t tag, value;
    if (!ReadVarint(&bytes, &tag)) return std::nullopt;
    switch (tag & 7) {
      case 0:
        if (!ReadVarint(&bytes, &value)) return std::nullopt;
        break;
      case 2:
        if (!ReadVarint(&bytes, &value) || value > bytes.size()) return std::nullopt;
        if (tag >> 3 == 1) service = bytes.substr(0, value);
        bytes.remove_prefix(value);
        break;
      default:
        return std::nullopt;
    }
  }
  return service;
}

std::string_view Health::Response(Status status) {
  switch (status) {
    case kServing:
      return "\x08\x01";
    case kNotServing:
      return "\x08\x02";
    default:
      return "\x08\x03";
  }
}

void Health::Check(RpcCall* call) const {
  const std::optional<std::string> service = ParseRequest(call->request());
  if (!service) return call->Finish({3, "The request is not a HealthCheckRequest"});
  const Status status = Get(*service);
  if (status == kServiceUnknown) return call->Finish({5, "unknown service: " + *service});
  const std::string_view response = Response(status);
  std::memcpy(call->AllocateReply(response.size()), response.data(), response.size());
  call->Finish({});
}

}  // namespace tfipu::serving
