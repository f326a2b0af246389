// By how much metrics grow while something is done.
#ifndef SERVING_API_METRIC_INCREASES_H_
#define SERVING_API_METRIC_INCREASES_H_

#include <cstdint>
#include <map>
#include <string>

#include "tensorflow_serving/apis/model_management.pb.h"

namespace tfipu::serving {

// Reads the metrics that a ReloadConfigRequest names when it is made, and again for the answer. A metric's
// value is the sum over its labels; one that has no whole numbers, or does not exist, is 0.
class MetricIncreases {
 public:
  explicit MetricIncreases(const tensorflow::serving::ReloadConfigRequest& request);

  // One metric of the answer for each of the request's, in its order.
  void AddTo(tensorflow::serving::ReloadConfigResponse* response) const;

 private:
  using Values = std::map<std::string, std::int64_t>;

  static Values Read();

  const tensorflow::serving::ReloadConfigRequest& request_;
  const Values before_;
};

}  // namespace tfipu::serving

#endif  // SERVING_API_METRIC_INCREASES_H_
