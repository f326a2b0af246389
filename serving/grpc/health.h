// What grpc.health.v1.Health knows.
#ifndef SERVING_GRPC_HEALTH_H_
#define SERVING_GRPC_HEALTH_H_

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serving/net/http2/rpc_call.h"

namespace tfipu::serving {

// Health of services by name. Thread-safe.
class HealthService {
 public:
  // The numbers of HealthCheckResponse.ServingStatus.
  enum Status { kServing = 1, kNotServing = 2, kServiceUnknown = 3 };

  HealthService() { statuses_[""] = kServing; }

  void Set(const std::string& service, Status status) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!ended_) statuses_[service] = status;
  }
  // Everything stops serving, for good.
  void End() {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    for (auto& entry : statuses_) entry.second = kNotServing;
  }
  Status Get(const std::string& service) const {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = statuses_.find(service);
    return found == statuses_.end() ? kServiceUnknown : found->second;
  }

  // Check and Watch. It outlives them.
  std::vector<net::http2::RpcMethod> Methods();

 private:
  void Check(net::http2::RpcCall* call) const;

  mutable std::mutex mutex_;
  std::map<std::string, Status> statuses_;
  bool ended_ = false;
};

}  // namespace tfipu::serving

#endif  // SERVING_GRPC_HEALTH_H_
