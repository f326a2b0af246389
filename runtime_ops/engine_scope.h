// How a session says whose engines its operations use.
#ifndef RUNTIME_OPS_ENGINE_SCOPE_H_
#define RUNTIME_OPS_ENGINE_SCOPE_H_

#include "cc/engine/engine_key.h"
#include "tensorflow/core/protobuf/config.pb.h"

namespace tfipu {

// Session metadata has a name and a version. The name is the model's; "#<incarnation>" follows if that is not
// 0, or if the name has a "#" itself.
void WriteScope(const EngineScope& scope, tensorflow::SessionMetadata* metadata);

// What WriteScope() wrote. Null, or no name: the scope of a Python process.
EngineScope ReadScope(const tensorflow::SessionMetadata* metadata);

}  // namespace tfipu

#endif  // RUNTIME_OPS_ENGINE_SCOPE_H_
