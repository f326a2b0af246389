// Model status and metadata as JSON, in the form that protobuf gives their messages.
#ifndef SERVING_REST_MODEL_JSON_H_
#define SERVING_REST_MODEL_JSON_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "serving/core/servable_directory.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {

// tensorflow.serving.GetModelStatusResponse.
std::string ModelStatusJson(const std::vector<ServableState>& states);

// tensorflow.serving.GetModelMetadataResponse with the metadata field "signature_def".
absl::StatusOr<std::string> ModelMetadataJson(const Servable& servable);

}  // namespace tfipu::serving

#endif  // SERVING_REST_MODEL_JSON_H_
