#include "serving/servables/servable.h"

#include <condition_variable>
#include <mutex>

#include "absl/time/clock.h"

namespace tfipu::serving {

absl::Status CheckWanted(const CallContext& context) {
  if (context.cancelled && context.cancelled()) {
    return absl::CancelledError("The client cancelled the call before it was run");
  }
  if (context.deadline != absl::InfiniteFuture() && absl::Now() >= context.deadline) {
    return absl::DeadlineExceededError("The deadline passed before the call was run");
  }
  return absl::OkStatus();
}

void CallDone::GiveUp() noexcept {
  if (function_ == nullptr) return;
  try {
    (*this)(absl::ResourceExhaustedError("There is not enough memory for the call."));
  } catch (const std::bad_alloc&) {
    // What it holds answers for itself when it is destroyed.
  }
}

absl::Status Servable::Run(const Signature& signature, const std::vector<tensorflow::Tensor>& inputs,
                           absl::Span<const int> outputs, const CallContext& context,
                           std::vector<tensorflow::Tensor>* results) const {
  std::mutex mutex;
  std::condition_variable changed;
  bool ended = false;
  absl::Status status;
  Start({&signature, inputs, {outputs.begin(), outputs.end()}, context},
        CallDone::Function([&](absl::Status told, std::vector<tensorflow::Tensor> given) {
          // Notified under the lock: the waiting thread destroys all this as soon as it sees the end.
          std::lock_guard<std::mutex> lock(mutex);
          status = std::move(told);
          *results = std::move(given);
          ended = true;
          changed.notify_one();
        }));
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait(lock, [&] { return ended; });
  return status;
}

}  // namespace tfipu::serving
