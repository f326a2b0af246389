// From flags to what TensorFlow's sessions are given.
#ifndef SERVING_SESSION_CONFIG_H_
#define SERVING_SESSION_CONFIG_H_

#include <optional>

#include "absl/status/statusor.h"
#include "serving/config.pb.h"
#include "serving/flags.h"
#include "serving/servables/saved_model.h"

namespace tfipu::serving {

struct ExecutionConfig {
  SavedModelOptions saved_model;
  std::optional<tensorflow::serving::BatchingParameters> batching;  // ordinary models are batched when set
};

// InvalidArgument names the flag or the file that is wrong.
absl::StatusOr<ExecutionConfig> ExecutionConfigFrom(const Flags& flags);

}  // namespace tfipu::serving

#endif  // SERVING_SESSION_CONFIG_H_
