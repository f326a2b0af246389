// A loaded version of a model, as the APIs see it.
#ifndef SERVING_SERVABLES_SERVABLE_H_
#define SERVING_SERVABLES_SERVABLE_H_

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
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

namespace compute {
class ComputeQueue;
}  // namespace compute

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
  // How its calls go: "direct", from their tensors to the device; "split", TensorFlow before or after it; or
  // "session: " and why it is not one of these.
  std::string way = "session";
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
  // Asked now and then, from any thread, while the call waits; reads a flag and no more. Empty: never
  // cancelled.
  std::function<bool()> cancelled = nullptr;
  // Where work runs that is not short; outlives the call. Null: in the thread that comes upon it.
  compute::ComputeQueue* compute = nullptr;
};

// Cancelled or DeadlineExceeded when the call is not worth running any more.
absl::Status CheckWanted(const CallContext& context);

// A call of a signature. `inputs`: one for each of signature->inputs, in that order. `outputs`: positions in
// signature->outputs of what is wanted.
struct ServableCall {
  const Signature* signature = nullptr;
  std::vector<tensorflow::Tensor> inputs;
  std::vector<int> outputs;
  CallContext context;
};

// Who is told of a call's end: once, with the wanted outputs in their order if the status is OK. If it is
// destroyed without that, as when an allocation failed on the way, it tells ResourceExhausted.
class CallDone {
 public:
  using Function = absl::AnyInvocable<void(absl::Status, std::vector<tensorflow::Tensor>) &&>;

  CallDone() = default;
  CallDone(Function function) : function_(std::move(function)) {}  // NOLINT: a function is one
  CallDone(CallDone&& other) noexcept : function_(std::exchange(other.function_, nullptr)) {}
  CallDone& operator=(CallDone&& other) noexcept {
    GiveUp();
    function_ = std::exchange(other.function_, nullptr);
    return *this;
  }
  ~CallDone() { GiveUp(); }

  void operator()(absl::Status status, std::vector<tensorflow::Tensor> results = {}) {
    std::exchange(function_, nullptr)(std::move(status), std::move(results));
  }

 private:
  void GiveUp() noexcept;

  Function function_;
};

// Immutable and thread-safe. Whoever starts a call holds a shared_ptr until it is done: an unloaded version
// ends when its last call has.
class Servable {
 public:
  virtual ~Servable() = default;

  virtual const ServableId& id() const = 0;

  // All signatures by name, those included that only metadata shows ("__saved_model_init_op").
  virtual const std::map<std::string, Signature, std::less<>>& signatures() const = 0;

  // Starts a call. Never waits, and runs in this thread only what is short: what is not, runs on
  // context.compute. `done` is told of the end by this thread or another, before this returns or later, and
  // does not block. A call waits no longer than its deadline for a device, a batch or a thread. With an open
  // Round, calls that are started in it may be run together when it is closed.
  virtual void Start(ServableCall call, CallDone done) const = 0;

  // Starts a call and waits for its end; for those who have a thread to spare, as tests and warm-up.
  absl::Status Run(const Signature& signature, const std::vector<tensorflow::Tensor>& inputs,
                   absl::Span<const int> outputs, const CallContext& context,
                   std::vector<tensorflow::Tensor>* results) const;

  // Whether calls go to a device, which has batching of its own.
  virtual bool UsesDevice() const { return false; }
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_SERVABLE_H_
