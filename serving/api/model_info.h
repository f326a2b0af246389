// Metadata and status of models over their messages; both transports answer with these.
#ifndef SERVING_API_MODEL_INFO_H_
#define SERVING_API_MODEL_INFO_H_

#include "absl/status/status.h"
#include "serving/core/servable_directory.h"
#include "serving/servables/servable.h"
#include "tensorflow_serving/apis/get_model_metadata.pb.h"
#include "tensorflow_serving/apis/get_model_status.pb.h"

namespace tfipu::serving {

// All signatures of a servable, as the metadata field "signature_def" carries them.
tensorflow::serving::SignatureDefMap SignatureDefMapOf(const Servable& servable);

// InvalidArgument unless the request asks for exactly known fields ("signature_def") of a model.
absl::Status GetModelMetadata(const ServableDirectory& directory,
                              const tensorflow::serving::GetModelMetadataRequest& request,
                              tensorflow::serving::GetModelMetadataResponse* response);

absl::Status GetModelStatus(const ServableDirectory& directory,
                            const tensorflow::serving::GetModelStatusRequest& request,
                            tensorflow::serving::GetModelStatusResponse* response);

}  // namespace tfipu::serving

#endif  // SERVING_API_MODEL_INFO_H_
