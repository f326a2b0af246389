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

// The service that a HealthCheckRequest names; nullopt when the bytes are not one.
std::optional<std::string> ParseRequest(std::string_view bytes) {
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

// A HealthCheckResponse.
std::string_view Response(HealthService::Status status) {
  switch (status) {
    case HealthService::kServing:
      return "\x08\x01";
    case HealthService::kNotServing:
      return "\x08\x02";
    default:
      return "\x08\x03";
  }
}

}  // namespace

std::vector<net::http2::RpcMethod> HealthService::Methods() {
  std::vector<net::http2::RpcMethod> methods(2);
  methods[0].path = "/grpc.health.v1.Health/Check";
  methods[0].handle = [this](net::http2::RpcCall* call) { Check(call); };
  methods[1].path = "/grpc.health.v1.Health/Watch";
  methods[1].watch = [this](std::string_view request, std::string* message) {
    const std::optional<std::string> service = ParseRequest(request);
    if (service) *message = Response(Get(*service));
    return service.has_value();
  };
  return methods;
}

void HealthService::Check(net::http2::RpcCall* call) const {
  std::string request;
  for (const net::http2::Slice& slice : call->request()) {
    request.append(static_cast<const char*>(slice.data), slice.size);
  }
  const std::optional<std::string> service = ParseRequest(request);
  if (!service) return call->Finish({3, "The request is not a HealthCheckRequest"});
  const Status status = Get(*service);
  if (status == kServiceUnknown) return call->Finish({5, "unknown service: " + *service});
  const std::string_view response = Response(status);
  if (void* bytes = call->AllocateReply(response.size()))
    std::memcpy(bytes, response.data(), response.size());
  call->Finish({});
}

}  // namespace tfipu::serving
