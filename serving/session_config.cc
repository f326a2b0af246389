#include "serving/session_config.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cc/base/status_macros.h"
#include "serving/batching/batching_options.h"
#include "serving/core/text_proto.h"
#include "tensorflow/core/protobuf/rewriter_config.pb.h"
#include "tensorflow_serving/config/platform_config.pb.h"

namespace tfipu::serving {
namespace {

using tensorflow::serving::BatchingParameters;

// TensorFlow makes all threads of a pool at once, and ends the process when it cannot.
constexpr int kMaxThreads = 4096;

absl::Status CheckThreads(absl::string_view name, std::int64_t threads, int least) {
  if (threads >= least && threads <= kMaxThreads) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": found ", threads, ", expected ", least, " to ", kMaxThreads, "."));
}

// From the flags where they are set.
absl::Status SetThreads(const Flags& flags, tensorflow::ConfigProto* session) {
  const std::int64_t both = flags.tensorflow_session_parallelism;
  const std::int64_t intra = flags.tensorflow_intra_op_parallelism;
  const std::int64_t inter = flags.tensorflow_inter_op_parallelism;
  // TensorFlow's word for no pool of inter-op threads is -1.
  TFIPU_RETURN_IF_ERROR(CheckThreads("--tensorflow_session_parallelism", both, 0));
  TFIPU_RETURN_IF_ERROR(CheckThreads("--tensorflow_intra_op_parallelism", intra, 0));
  TFIPU_RETURN_IF_ERROR(CheckThreads("--tensorflow_inter_op_parallelism", inter, -1));
  if (intra + both > 0) {
    session->set_intra_op_parallelism_threads(static_cast<int>(intra > 0 ? intra : both));
  }
  if (inter != 0 || both > 0) {
    session->set_inter_op_parallelism_threads(static_cast<int>(inter != 0 ? inter : both));
  }
  return absl::OkStatus();
}

absl::Status CheckSession(const tensorflow::ConfigProto& session) {
  TFIPU_RETURN_IF_ERROR(
      CheckThreads("intra_op_parallelism_threads", session.intra_op_parallelism_threads(), 0));
  TFIPU_RETURN_IF_ERROR(
      CheckThreads("inter_op_parallelism_threads", session.inter_op_parallelism_threads(), -1));
  for (const auto& pool : session.session_inter_op_thread_pool()) {
    TFIPU_RETURN_IF_ERROR(CheckThreads("session_inter_op_thread_pool's num_threads", pool.num_threads(), 0));
  }
  return absl::OkStatus();
}

absl::Status ReadPlatformConfig(const std::string& path, SavedModelLoaderOptions* config) {
  tensorflow::serving::PlatformConfigMap platforms;
  TFIPU_RETURN_IF_ERROR(ReadTextProto(path, &platforms));
  for (const auto& [platform, settings] : platforms.platform_configs()) {
    if (platform != "tensorflow") {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": found platform \"", platform, "\", expected \"tensorflow\"."));
    }
    tensorflow::serving::SavedModelBundleSourceAdapterConfig adapter;
    if (!settings.source_adapter_config().UnpackTo(&adapter)) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": found source_adapter_config of type ", settings.source_adapter_config().type_url(),
          ", expected tensorflow.serving.SavedModelBundleSourceAdapterConfig."));
    }
    const tensorflow::serving::SessionBundleConfig& bundle = adapter.legacy_config();
    if (!bundle.session_target().empty()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": found session_target \"",
                                                     bundle.session_target(),
                                                     "\", expected none: sessions run in this process."));
    }
    config->saved_model.session = bundle.session_config();
    if (bundle.has_batching_parameters()) config->batching = bundle.batching_parameters();
  }
  return absl::OkStatus();
}

absl::Status SetBatching(const Flags& flags, std::optional<BatchingParameters>* batching) {
  if (flags.enable_batching) {
    batching->emplace();
    if (flags.batching_parameters_file.empty()) return absl::OkStatus();
    return ReadTextProto(flags.batching_parameters_file, &**batching);
  }
  if (flags.batching_parameters_file.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("--batching_parameters_file was given without --enable_batching.");
}

}  // namespace

absl::StatusOr<SavedModelLoaderOptions> LoaderOptionsFrom(const Flags& flags) {
  SavedModelLoaderOptions config;
  tensorflow::ConfigProto& session = config.saved_model.session;
  if (!flags.platform_config_file.empty()) {
    TFIPU_RETURN_IF_ERROR(ReadPlatformConfig(flags.platform_config_file, &config));
  } else {
    if (!flags.tensorflow_session_config_file.empty()) {
      TFIPU_RETURN_IF_ERROR(ReadTextProto(flags.tensorflow_session_config_file, &session));
    }
    TFIPU_RETURN_IF_ERROR(SetThreads(flags, &session));
    TFIPU_RETURN_IF_ERROR(SetBatching(flags, &config.batching));
  }
  TFIPU_RETURN_IF_ERROR(CheckSession(session));
  if (config.batching.has_value()) TFIPU_RETURN_IF_ERROR(BatchingOptionsFrom(*config.batching).status());
  config.per_model_batching = flags.enable_per_model_batching_parameters;
  config.warm_up_iterations = std::max(1, flags.num_request_iterations_for_warmup);
  config.flush_file_system_caches = flags.flush_filesystem_caches;
  // Several requests at once keep the cores busy better than one that is divided among them.
  if (session.intra_op_parallelism_threads() == 0) session.set_intra_op_parallelism_threads(1);
  config.saved_model.enforce_shapes = flags.enforce_signature_shapes;
  config.saved_model.use_inter_op_pool = session.inter_op_parallelism_threads() > 1;
  // A served graph never grows: what it was made from can go.
  session.mutable_experimental()->set_disable_optimize_for_static_graph(
      !flags.remove_unused_fields_from_bundle_metagraph);
  session.mutable_experimental()->set_disable_output_partition_graphs(true);

  if (flags.mixed_precision == "bfloat16") {
    session.mutable_graph_options()->mutable_rewrite_options()->set_auto_mixed_precision_onednn_bfloat16(
        tensorflow::RewriterConfig::ON);
  } else if (!flags.mixed_precision.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--mixed_precision: found \"", flags.mixed_precision, "\", expected \"bfloat16\"."));
  }
  if (flags.xla_cpu_compilation_enabled) {
    session.mutable_graph_options()->mutable_optimizer_options()->set_global_jit_level(
        tensorflow::OptimizerOptions::ON_2);
    // The compiler asks the environment whether CPUs are included.
    const char* const before = std::getenv("TF_XLA_FLAGS");
    setenv("TF_XLA_FLAGS", absl::StrCat(before == nullptr ? "" : before, " --tf_xla_cpu_global_jit").c_str(),
           1);
  }

  const std::vector<std::string> tags = absl::StrSplit(flags.saved_model_tags, ',', absl::SkipEmpty());
  config.saved_model.tags = {tags.begin(), tags.end()};
  return config;
}

}  // namespace tfipu::serving
