// Runs a signature on its device without a TensorFlow session around the call.
#ifndef SERVING_SERVABLES_DEVICE_SIGNATURE_H_
#define SERVING_SERVABLES_DEVICE_SIGNATURE_H_

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cc/engine/engine.h"
#include "cc/engine/engine_key.h"
#include "serving/servables/device_cut.h"
#include "serving/servables/row_times.h"
#include "serving/servables/servable.h"
#include "tensorflow/core/public/session.h"

namespace tfipu::serving {

// A call goes through these: the callable before the device, if there is one, in the thread that starts the
// call or on a slot; the engine's queue; the callable after the device, if there is one, in the thread that
// was inside the device or on a slot; the end. Nobody waits between. Thread-safe.
class DeviceSignature {
 public:
  // Makes the callables and attaches to the engine, which it starts if it does not run. The session and the
  // signature outlive it.
  static absl::StatusOr<std::unique_ptr<DeviceSignature>> Make(tensorflow::Session* session,
                                                               const Signature* signature,
                                                               const EngineScope& scope, DeviceCut cut,
                                                               int inter_op_thread_pool);

  // Servable::Start().
  void Start(ServableCall call, CallDone done);

  // "direct" or "split".
  const char* way() const { return cut_.direct() ? "direct" : "split"; }

 private:
  struct Job;

  DeviceSignature(tensorflow::Session* session, const Signature* signature, DeviceCut cut)
      : session_(session), signature_(*signature), cut_(std::move(cut)) {}

  void RunBefore(std::unique_ptr<Job> job);
  void CallDevice(std::unique_ptr<Job> job);
  void DeviceDone(std::unique_ptr<Job> job, absl::Status status);
  void RunAfter(std::unique_ptr<Job> job);

  tensorflow::Session* const session_;
  const Signature& signature_;
  const DeviceCut cut_;
  std::shared_ptr<Engine> engine_;
  std::optional<tensorflow::Session::CallableHandle> before_;
  std::optional<tensorflow::Session::CallableHandle> after_;
  RowTimes before_times_, after_times_;
};

}  // namespace tfipu::serving

#endif  // SERVING_SERVABLES_DEVICE_SIGNATURE_H_
