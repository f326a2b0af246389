// tensorflow.ProfilerService: TensorFlow's own profiler of this process, for TensorBoard's "capture profile".

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "serving/api/error_text.h"
#include "serving/api/rpc_methods.h"
#include "serving/api/slice_stream.h"
#include "tsl/profiler/lib/profiler_session.h"
#include "tsl/profiler/protobuf/profiler_service.pb.h"
#include "tsl/profiler/protobuf/xplane.pb.h"
#include "xla/tsl/profiler/rpc/client/save_profile.h"

namespace tfipu::serving {
namespace {

// Which profiles are to end early.
class Terminations {
 public:
  void Begin(const std::string& session) {
    absl::MutexLock lock(&mutex_);
    terminated_.emplace(session, false);
  }
  void End(const std::string& session) {
    absl::MutexLock lock(&mutex_);
    terminated_.erase(session);
  }
  void Terminate(const std::string& session) {
    absl::MutexLock lock(&mutex_);
    auto found = terminated_.find(session);
    if (found != terminated_.end()) found->second = true;
    changed_.SignalAll();
  }
  // Waits until a session is terminated or the time is over, but no longer than some moments.
  bool WaitAMoment(const std::string& session, absl::Time end) {
    absl::MutexLock lock(&mutex_);
    if (!terminated_[session])
      changed_.WaitWithDeadline(&mutex_, std::min(end, absl::Now() + absl::Milliseconds(50)));
    return terminated_[session];
  }

 private:
  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::map<std::string, bool> terminated_;
};

RpcStatus ToRpcStatus(const absl::Status& status) {
  return {static_cast<int>(status.code()), ErrorText(status.message())};
}

absl::Status Reply(RpcCall* call, const google::protobuf::MessageLite& message) {
  const std::size_t size = message.ByteSizeLong();
  if (size > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return absl::ResourceExhaustedError(
        absl::StrCat("The profile has ", size, " bytes, more than a message can have"));
  }
  void* const bytes = call->AllocateReply(size);
  if (bytes == nullptr) return absl::ResourceExhaustedError("There is no room for the profile");
  message.SerializeWithCachedSizesToArray(static_cast<std::uint8_t*>(bytes));
  return absl::OkStatus();
}

absl::Status Profile(RpcCall* call, Terminations* terminations) {
  tensorflow::ProfileRequest request;
  SliceStream stream(call->request());
  if (!request.ParseFromZeroCopyStream(&stream))
    return absl::InvalidArgumentError("The request is not a ProfileRequest");
  auto session = tsl::ProfilerSession::Create(request.opts());
  if (absl::Status status = session->Status(); !status.ok()) return status;

  const std::string& name = request.session_id();
  terminations->Begin(name);
  const std::uint64_t longest = absl::ToInt64Milliseconds(absl::Hours(1));
  const absl::Time end =
      absl::Now() + absl::Milliseconds(std::min<std::uint64_t>(request.duration_ms(), longest));
  while (absl::Now() < end && !call->cancelled() && !terminations->WaitAMoment(name, end)) {
  }
  terminations->End(name);
  if (call->cancelled()) return absl::CancelledError("The client cancelled the profile");

  tensorflow::ProfileResponse response;
  tensorflow::profiler::XSpace space;
  if (absl::Status status = session->CollectData(&space); !status.ok()) return status;
  response.set_empty_trace(space.planes().empty());
  if (request.emit_xspace() || request.repository_root().empty()) {
    *response.mutable_xspace() = std::move(space);
  } else {
    absl::Status status = tsl::profiler::SaveXSpace(request.repository_root(), request.session_id(),
                                                    request.host_name(), space);
    if (!status.ok()) return status;
  }
  return Reply(call, response);
}

}  // namespace

std::vector<RpcMethod> ProfilerMethods(compute::ComputeQueue* background) {
  auto terminations = std::make_shared<Terminations>();
  const std::string service = "/tensorflow.ProfilerService/";
  std::vector<RpcMethod> methods;
  methods.push_back({service + "Profile", [background, terminations](RpcCall* call) {
                       absl::Status accepted = background->Run(false, [call, terminations] {
                         call->Finish(ToRpcStatus(Profile(call, terminations.get())));
                       });
                       if (!accepted.ok()) call->Finish(ToRpcStatus(accepted));
                     }});
  methods.push_back({service + "Terminate", [terminations](RpcCall* call) {
                       tensorflow::TerminateRequest request;
                       SliceStream stream(call->request());
                       if (!request.ParseFromZeroCopyStream(&stream)) {
                         return call->Finish(ToRpcStatus(
                             absl::InvalidArgumentError("The request is not a TerminateRequest")));
                       }
                       terminations->Terminate(request.session_id());
                       call->Finish(ToRpcStatus(Reply(call, tensorflow::TerminateResponse())));
                     }});
  methods.push_back({service + "Monitor", [](RpcCall* call) {
                       call->Finish(
                           ToRpcStatus(absl::UnimplementedError("This server has no monitoring results")));
                     }});
  return methods;
}

}  // namespace tfipu::serving
