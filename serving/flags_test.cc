#include "serving/flags.h"

#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu::serving {
namespace {

using ::testing::HasSubstr;

absl::Status Parse(const std::vector<const char*>& arguments, Flags* flags) {
  return ParseFlags(arguments, flags);
}

TEST(FlagsTest, ReadsValuesOfEveryType) {
  Flags flags;
  ASSERT_TRUE(
      Parse({"--port=1", "--rest_api_port", "2", "--model_name=m", "--load_retry_interval_micros=5000000000",
             "--per_process_gpu_memory_fraction=0.5", "--model_base_path=/a=b"},
            &flags)
          .ok());
  EXPECT_EQ(flags.port, 1);
  EXPECT_EQ(flags.rest_api_port, 2);
  EXPECT_EQ(flags.model_name, "m");
  EXPECT_EQ(flags.load_retry_interval_micros, 5'000'000'000);
  EXPECT_EQ(flags.per_process_gpu_memory_fraction, 0.5f);
  EXPECT_EQ(flags.model_base_path, "/a=b");
}

TEST(FlagsTest, ReadsBooleansInAllTheirForms) {
  for (const char* const yes : {"--enable_batching", "--enable_batching=true", "--enable_batching=1"}) {
    Flags flags;
    ASSERT_TRUE(Parse({yes}, &flags).ok()) << yes;
    EXPECT_TRUE(flags.enable_batching) << yes;
  }
  for (const char* const no : {"--noenable_profiler", "--enable_profiler=false", "--enable_profiler=0"}) {
    Flags flags;
    ASSERT_TRUE(Parse({no}, &flags).ok()) << no;
    EXPECT_FALSE(flags.enable_profiler) << no;
  }
  Flags flags;
  ASSERT_TRUE(Parse({"--enable_profiler", "false", "--enable_batching", "--port=3"}, &flags).ok());
  EXPECT_FALSE(flags.enable_profiler);
  EXPECT_TRUE(flags.enable_batching);
  EXPECT_EQ(flags.port, 3);
}

TEST(FlagsTest, NamesWhatIsWrong) {
  Flags flags;
  const auto message = [&](const std::vector<const char*>& arguments) {
    return std::string(Parse(arguments, &flags).message());
  };
  EXPECT_THAT(message({"--rest_port=1"}), HasSubstr("no flag --rest_port. Did you mean --rest_api_port?"));
  EXPECT_THAT(message({"--completely_different=1"}), HasSubstr("See --help."));
  EXPECT_THAT(message({"--port=abc"}), HasSubstr("--port: found \"abc\", expected a whole number"));
  EXPECT_THAT(message({"--port=99999999999"}), HasSubstr("--port"));
  EXPECT_THAT(message({"--enable_batching=maybe"}), HasSubstr("expected true or false"));
  EXPECT_THAT(message({"--model_name"}), HasSubstr("--model_name has no value"));
  EXPECT_THAT(message({"model"}), HasSubstr("\"model\" is not a flag"));
  EXPECT_THAT(message({"--nomodel_name"}), HasSubstr("no flag --nomodel_name"));
}

// The flags of TensorFlow Serving 2.21.
TEST(FlagsTest, KnowsAndExplainsAllOfTensorFlowServingsFlags) {
  const std::set<std::string> names = {"allow_version_labels_for_unavailable_models",
                                       "batching_parameters_file",
                                       "enable_batching",
                                       "enable_grpc_healthcheck_service",
                                       "enable_model_warmup",
                                       "enable_per_model_batching_parameters",
                                       "enable_profiler",
                                       "enable_serialization_as_tensor_content",
                                       "enable_signature_method_name_check",
                                       "file_system_poll_wait_seconds",
                                       "flush_filesystem_caches",
                                       "grpc_channel_arguments",
                                       "grpc_max_threads",
                                       "grpc_socket_path",
                                       "load_retry_interval_micros",
                                       "max_num_load_retries",
                                       "mixed_precision",
                                       "model_base_path",
                                       "model_config_file",
                                       "model_config_file_poll_wait_seconds",
                                       "model_name",
                                       "monitoring_config_file",
                                       "num_load_threads",
                                       "num_request_iterations_for_warmup",
                                       "num_tflite_interpreters_per_pool",
                                       "num_tflite_pools",
                                       "num_unload_threads",
                                       "per_process_gpu_memory_fraction",
                                       "platform_config_file",
                                       "port",
                                       "prefer_tflite_model",
                                       "remove_unused_fields_from_bundle_metagraph",
                                       "rest_api_enable_cors_support",
                                       "rest_api_num_threads",
                                       "rest_api_port",
                                       "rest_api_timeout_in_ms",
                                       "saved_model_tags",
                                       "skip_initialize_tpu",
                                       "ssl_config_file",
                                       "tensorflow_inter_op_parallelism",
                                       "tensorflow_intra_op_parallelism",
                                       "tensorflow_session_config_file",
                                       "tensorflow_session_parallelism",
                                       "thread_pool_factory_config_file",
                                       "use_alts_credentials",
                                       "version",
                                       "xla_cpu_compilation_enabled",
                                       "xla_gpu_compilation_enabled"};
  EXPECT_EQ(names.size(), 48);
  const std::string help = FlagHelp();
  for (const std::string& name : names) {
    EXPECT_THAT(help, HasSubstr(absl::StrCat("  --", name, "=")));
    Flags flags;
    const std::string argument = absl::StrCat("--", name, "=1");
    EXPECT_TRUE(Parse({argument.c_str()}, &flags).ok()) << argument;
  }
}

}  // namespace
}  // namespace tfipu::serving
