#include "serving/servables/saved_model.h"

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "runtime_ops/engine_scope.h"
#include "serving/servables/device_calls.h"
#include "serving/servables/device_cut.h"
#include "serving/servables/device_signature.h"
#include "serving/servables/session_signature.h"
#include "serving/servables/signature.h"
#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/cc/saved_model/reader.h"
#include "tensorflow/core/public/session.h"

namespace tfipu::serving {
namespace {

using tensorflow::MetaGraphDef;
using tensorflow::Session;

constexpr char kDefaultSignature[] = "serving_default";
// Signatures that are made ready when a model is loaded. It takes some 10 ms each, and some models have
// dozens.
constexpr int kPreparedSignatures = 4;

class SavedModelServable : public Servable {
 public:
  SavedModelServable(ServableId id, std::unique_ptr<Session> session, Signatures signatures, bool uses_device,
                     const SavedModelOptions& options)
      : id_(std::move(id)),
        inter_op_thread_pool_(options.use_inter_op_pool ? 0 : -1),
        uses_device_(uses_device),
        session_(std::move(session)),
        signatures_(std::move(signatures)),
        on_device_(signatures_.size()) {
    for (const auto& [_, signature] : signatures_) {
      in_session_.push_back(std::make_unique<SessionSignature>(
          session_.get(), &signature,
          SessionSignature::Options{inter_op_thread_pool_, uses_device_,
                                    options.enforce_shapes || !signature.engines.empty()}));
    }
  }

  ~SavedModelServable() override { session_->Close().IgnoreError(); }

  // From then on a signature that could be cut needs no session. One whose engine cannot be found goes on to
  // tell why, call by call.
  void AttachDevices(const EngineScope& scope, std::map<std::string, DeviceCut> cuts) {
    for (auto& [name, cut] : cuts) {
      Signature& signature = signatures_.find(name)->second;
      auto made =
          DeviceSignature::Make(session_.get(), &signature, scope, std::move(cut), inter_op_thread_pool_);
      if (made.ok()) {
        signature.way = (*made)->way();
        on_device_[signature.index] = *std::move(made);
      } else {
        signature.way = absl::StrCat("session: ", made.status().message());
      }
    }
  }

  // Makes the first signatures ready, that of most calls before all others; the rest is when it is called.
  // One that is not for calls, as of sparse tensors, fails its calls and not the version.
  absl::Status Prepare() {
    int ahead = kPreparedSignatures;
    const auto found = signatures_.find(kDefaultSignature);
    if (found != signatures_.end() && found->second.runnable.ok()) {
      TFIPU_RETURN_IF_ERROR(PrepareSignature(found->second));
      --ahead;
    }
    for (const auto& [name, signature] : signatures_) {
      if (name == kDefaultSignature || !signature.runnable.ok()) continue;
      if (--ahead < 0) break;
      TFIPU_RETURN_IF_ERROR(PrepareSignature(signature));
    }
    return absl::OkStatus();
  }

  const ServableId& id() const override { return id_; }
  const Signatures& signatures() const override { return signatures_; }

  void Start(ServableCall call, CallDone done) const override {
    const int index = call.signature->index;
    if (on_device_[index] != nullptr) return on_device_[index]->Start(std::move(call), std::move(done));
    in_session_[index]->Start(std::move(call), std::move(done));
  }

  bool UsesDevice() const override { return uses_device_; }

 private:
  absl::Status PrepareSignature(const Signature& signature) {
    if (on_device_[signature.index] != nullptr) return absl::OkStatus();
    return in_session_[signature.index]->Prepare();
  }

  const ServableId id_;
  const int inter_op_thread_pool_;
  const bool uses_device_;
  const std::unique_ptr<Session> session_;
  Signatures signatures_;
  // By index of the signature.
  std::vector<std::unique_ptr<SessionSignature>> in_session_;
  std::vector<std::unique_ptr<DeviceSignature>> on_device_;
};

// Cuts the signatures that can be cut; the others say why not.
std::map<std::string, DeviceCut> CutSignatures(const DeviceCalls& calls, Signatures* signatures,
                                               tensorflow::GraphDef* graph) {
  std::map<std::string, DeviceCut> cuts;
  for (auto& [name, signature] : *signatures) {
    signature.way = "session: no device call";
    const std::set<std::string> engines = calls.Of(signature);
    signature.engines.assign(engines.begin(), engines.end());
  }
  for (auto& [name, signature] : *signatures) {
    if (signature.engines.empty() || !signature.runnable.ok()) continue;
    absl::StatusOr<DeviceCut> cut = CutAtDeviceCall(signature, graph);
    if (cut.ok()) {
      cuts.emplace(name, *std::move(cut));
    } else {
      signature.way = absl::StrCat("session: ", cut.status().message());
    }
  }
  return cuts;
}

absl::StatusOr<std::unique_ptr<const Servable>> Load(const VersionSource& source,
                                                     const SavedModelOptions& options,
                                                     MetaGraphDef meta_graph) {
  TFIPU_ASSIGN_OR_RETURN(Signatures signatures, SignaturesOf(meta_graph));

  const EngineScope scope{source.id.name, source.id.version, source.incarnation};
  bool uses_device = false;
  std::map<std::string, DeviceCut> cuts;
  {
    const DeviceCalls device_calls(meta_graph.graph_def());
    uses_device = !device_calls.All().empty();
    // What is added lies in nodes of its own; those that `device_calls` knows stay where they are.
    cuts = CutSignatures(device_calls, &signatures, meta_graph.mutable_graph_def());
  }

  tensorflow::SessionOptions session_options;
  session_options.config = options.session;
  WriteScope(scope, session_options.config.mutable_experimental()->mutable_session_metadata());
  std::unique_ptr<Session> session;
  TFIPU_RETURN_IF_ERROR(tensorflow::LoadMetagraphIntoSession(session_options, meta_graph, &session));
  TFIPU_RETURN_IF_ERROR(
      tensorflow::RestoreSession(tensorflow::RunOptions(), meta_graph, source.path, &session));
  meta_graph.Clear();

  auto servable = std::make_unique<SavedModelServable>(source.id, std::move(session), std::move(signatures),
                                                       uses_device, options);
  servable->AttachDevices(scope, std::move(cuts));
  TFIPU_RETURN_IF_ERROR(servable->Prepare());
  return std::unique_ptr<const Servable>(std::move(servable));
}

absl::Status WithPath(const absl::Status& status, const std::string& path) {
  if (absl::StrContains(status.message(), path)) return status;
  return absl::Status(status.code(), absl::StrCat("SavedModel ", path, ": ", status.message()));
}

}  // namespace

absl::StatusOr<MetaGraphDef> ReadMetaGraph(const std::string& path, const SavedModelOptions& options) {
  MetaGraphDef meta_graph;
  const absl::Status status = tensorflow::ReadMetaGraphDefFromSavedModel(path, options.tags, &meta_graph);
  if (!status.ok()) return WithPath(status, path);
  return meta_graph;
}

absl::StatusOr<std::unique_ptr<const Servable>> LoadSavedModelServable(const VersionSource& source,
                                                                       const SavedModelOptions& options,
                                                                       MetaGraphDef meta_graph) {
  absl::StatusOr<std::unique_ptr<const Servable>> loaded = Load(source, options, std::move(meta_graph));
  if (!loaded.ok()) return WithPath(loaded.status(), source.path);
  return loaded;
}

}  // namespace tfipu::serving
