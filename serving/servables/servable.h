// A loaded version of a model, as the APIs see it.
#ifndef SERVING_SERVABLES_SERVABLE_H_
#define SERVING_SERVABLES_SERVABLE_H_

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "serving/core/servable_id.h"
#include "serving/servables/signature_statistics.h"
#include "tensorflow/core/framework/partial_tensor_shape.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/protobuf/meta_graph.pb.h"

namespace tfipu::serving {

// An input or output of a signature.
struct SignatureTensor {
  std::string alias;  // the name that clients use
  std::string tensor_name;
  tensorflow::DataType dtype;
  tensorflow::PartialTensorShape shape;
  std::optional<tensorflow::Tensor> default_value;  // inputs only
};

struct Signature {
  std::string name;
  int index = 0;  // position in the servable's signatures()
  std::string method_name;
  std::vector<SignatureTensor> inputs;   // ordered by alias
  std::vector<SignatureTensor> outputs;  // ordered by alias
  tensorflow::SignatureDef def;
  absl::Status runnable;             // why its calls fail, whatever they bring; with TensorFlow's codes
  std::vector<std::string> engines;  // names of the devices' engines that its calls use, in order
  std::shared_ptr<SignatureStatistics> statistics = std::make_shared<SignatureStatistics>();

  // Position of an alias, or -1.
  int FindInput(absl::string_view alias) const { return Find(inputs, alias); }
  int FindOutput(absl::string_view alias) const { return Find(outputs, alias); }

 private:
  static int Find(const std::vector<SignatureTensor>& tensors, absl::string_view alias) {
    const auto found = std::lower_bound(
        tensors.begin(), tensors.end(), alias,
        [](const SignatureTensor& tensor, absl::string_view wanted) { return tensor.alias < wanted; });
    return found == tensors.end() || found->alias != alias ? -1 : static_cast<int>(found - tensors.begin());
  }
};

// What a call brings along beside its tensors.
struct CallContext {
  absl::Time deadline = absl::InfiniteFuture();
  bool high_priority = false;
  // Asked now and then, from any thread, while the call waits; empty: never cancelled.
  std::function<bool()> cancelled;
};

// Immutable and thread-safe. Whoever runs it holds a shared_ptr: an unloaded version ends when its last call
// has.
class Servable {
 public:
  virtual ~Servable() = default;

  virtual const ServableId& id() const = 0;

  // All signatures by name, those included that only metadata shows ("__saved_model_init_op").
  virtual const std::map<std::string, Signature, std::less<>>& signatures() const = 0;

  // Runs a signature in the calling thread. `inputs`: one for each of signature.inputs, in that order.
  // `outputs`: positions in signature.outputs of what is wanted; results come in the same order. Waits no
  // longer than the deadline for a device or a batch.
  virtual absl::Status Run(const Signature& signature, const std::vector<tensorflow::Tensor>& inputs,
                           absl::Span<const int> outputs, const CallContext& context,
                           std::vector<tensorflow::Tensor>* results) const = 0;

  // Whether calls of this signature have lately been so short (some 100 us) that a transport's thread may run
  // them itself; false until there were some.
  virtual bool ExpectedShort(const Signature& signature) const = 0;

  // Whether calls go to a device, which has batching of its own.
  virtual bool UsesDevice() const { return false; }
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_SERVABLE_H_
