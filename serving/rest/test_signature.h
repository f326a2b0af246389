// Signatures for tests.
#ifndef SERVING_REST_TEST_SIGNATURE_H_
#define SERVING_REST_TEST_SIGNATURE_H_

#include <string>
#include <utility>
#include <vector>

#include "serving/servables/servable.h"

namespace tfipu::serving {

using AliasAndType = std::pair<std::string, tensorflow::DataType>;

inline Signature TestSignature(const std::string& name, const std::vector<AliasAndType>& inputs,
                               const std::vector<AliasAndType>& outputs) {
  Signature signature;
  signature.name = name;
  signature.method_name = "tensorflow/serving/predict";
  signature.def.set_method_name(signature.method_name);
  const auto add = [](const std::vector<AliasAndType>& from, std::vector<SignatureTensor>* to, auto* map) {
    for (const auto& [alias, dtype] : from) {
      to->push_back({alias, alias + ":0", dtype, tensorflow::PartialTensorShape(), std::nullopt});
      (*map)[alias].set_name(alias + ":0");
      (*map)[alias].set_dtype(dtype);
      (*map)[alias].mutable_tensor_shape()->add_dim()->set_size(-1);
    }
  };
  add(inputs, &signature.inputs, signature.def.mutable_inputs());
  add(outputs, &signature.outputs, signature.def.mutable_outputs());
  return signature;
}

}  // namespace tfipu::serving

#endif  // SERVING_REST_TEST_SIGNATURE_H_
