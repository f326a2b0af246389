// How the serving APIs' messages name a model and how we do.
#ifndef SERVING_API_MODEL_SPEC_H_
#define SERVING_API_MODEL_SPEC_H_

#include <string>

#include "absl/strings/string_view.h"
#include "serving/core/servable_directory.h"
#include "serving/core/servable_id.h"
#include "tensorflow_serving/apis/model.pb.h"

namespace tfipu::serving {

// What a message's model_spec asks for. Whether that is valid and exists is the directory's to say.
ModelSpec ModelSpecFrom(const tensorflow::serving::ModelSpec& proto);

// The same in words, for errors: model "m", version 3.
std::string ModelSpecText(const tensorflow::serving::ModelSpec& proto);

// Says in a reply which version and signature answered; no signature name when it is empty.
void FillModelSpec(const ServableId& id, absl::string_view signature_name,
                   tensorflow::serving::ModelSpec* proto);

}  // namespace tfipu::serving

#endif  // SERVING_API_MODEL_SPEC_H_
