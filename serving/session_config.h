// From flags to how models are loaded and what TensorFlow's sessions are given.
#ifndef SERVING_SESSION_CONFIG_H_
#define SERVING_SESSION_CONFIG_H_

#include "absl/status/statusor.h"
#include "serving/flags.h"
#include "serving/servables/saved_model_loader.h"

namespace tfipu::serving {

// All but the replay. InvalidArgument names the flag or the file that is wrong. With --platform_config_file,
// that file counts and not the flags that it stands for, as in TensorFlow Serving.
absl::StatusOr<SavedModelLoaderOptions> LoaderOptionsFrom(const Flags& flags);

}  // namespace tfipu::serving

#endif  // SERVING_SESSION_CONFIG_H_
