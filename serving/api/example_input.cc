#include "serving/api/example_input.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "tensorflow/core/example/example.pb.h"

namespace tfipu::serving {
namespace {

using tensorflow::serving::Input;

const google::protobuf::RepeatedPtrField<tensorflow::Example>& ExamplesOf(const Input& input) {
  return input.kind_case() == Input::kExampleListWithContext ? input.example_list_with_context().examples()
                                                             : input.example_list().examples();
}

}  // namespace

int ExampleCount(const Input& input) { return ExamplesOf(input).size(); }

absl::StatusOr<tensorflow::Tensor> ExamplesTensor(const Input& input, RepeatedBytes* repeated) {
  const auto& examples = ExamplesOf(input);
  if (examples.empty()) return absl::InvalidArgumentError("Input is empty.");
  // Messages merge by concatenation; what comes later wins.
  std::string context;
  if (input.kind_case() == Input::kExampleListWithContext) {
    context = input.example_list_with_context().context().SerializeAsString();
    if (context.size() > kMaxRepeatedBytes / examples.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("The context of ", context.size(), " bytes would have to be added to ",
                       examples.size(), " examples, which may take ", kMaxRepeatedBytes, " bytes at most"));
    }
    TFIPU_RETURN_IF_ERROR(repeated->Take(context.size() * (examples.size() - 1)));
  }
  tensorflow::Tensor tensor(tensorflow::DT_STRING, tensorflow::TensorShape({examples.size()}));
  auto flat = tensor.flat<tensorflow::tstring>();
  for (int i = 0; i < examples.size(); ++i) {
    const std::size_t size = examples[i].ByteSizeLong();
    tensorflow::tstring& bytes = flat(i);
    bytes.resize_uninitialized(context.size() + size);
    char* data = bytes.mdata();
    context.copy(data, context.size());
    examples[i].SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(data + context.size()));
  }
  return tensor;
}

}  // namespace tfipu::serving
