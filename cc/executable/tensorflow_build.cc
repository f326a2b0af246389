#include "cc/executable/tensorflow_build.h"

#include "cc/executable/compatibility.h"
#include "tensorflow/c/c_api.h"

namespace tfipu {

const Build& TensorFlowBuild() {
  static const Build* const current = [] {
    auto* build = new Build(RuntimeBuild());
    build->set_tensorflow_version(TF_Version());
    return build;
  }();
  return *current;
}

}  // namespace tfipu
