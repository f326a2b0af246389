#include "serving/batching/batching_options.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/base/status_macros.h"
#include "serving/core/text_proto.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/platform/path.h"

namespace tfipu::serving {

using tensorflow::serving::BatchingParameters;

absl::StatusOr<BatchingOptions> BatchingOptionsFrom(const BatchingParameters& parameters) {
  BatchingOptions options;
  const auto set = [](const char* name, bool present, std::int64_t value, std::int64_t least,
                      std::int64_t* target) {
    if (!present) return absl::OkStatus();
    if (value < least) {
      return absl::InvalidArgumentError(
          absl::StrCat("Batching parameter ", name, ": found ", value, ", expected at least ", least, "."));
    }
    *target = value;
    return absl::OkStatus();
  };
  std::int64_t timeout = 0;
  TFIPU_RETURN_IF_ERROR(set("max_batch_size", parameters.has_max_batch_size(),
                            parameters.max_batch_size().value(), 1, &options.max_batch_size));
  TFIPU_RETURN_IF_ERROR(set("batch_timeout_micros", parameters.has_batch_timeout_micros(),
                            parameters.batch_timeout_micros().value(), 0, &timeout));
  TFIPU_RETURN_IF_ERROR(set("max_enqueued_batches", parameters.has_max_enqueued_batches(),
                            parameters.max_enqueued_batches().value(), 1, &options.max_enqueued_batches));
  TFIPU_RETURN_IF_ERROR(set("num_batch_threads", parameters.has_num_batch_threads(),
                            parameters.num_batch_threads().value(), 1, &options.num_batch_threads));
  TFIPU_RETURN_IF_ERROR(set("max_execution_batch_size", parameters.has_max_execution_batch_size(),
                            parameters.max_execution_batch_size().value(), 1,
                            &options.max_execution_batch_size));
  options.batch_timeout = absl::Microseconds(timeout);
  options.pad_variable_length_inputs = parameters.pad_variable_length_inputs();
  options.enable_large_batch_splitting = parameters.enable_large_batch_splitting().value();
  if (options.max_execution_batch_size > options.max_batch_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("Batching parameter max_execution_batch_size: found ", options.max_execution_batch_size,
                     ", expected at most max_batch_size, ", options.max_batch_size, "."));
  }
  options.allowed_batch_sizes.assign(parameters.allowed_batch_sizes().begin(),
                                     parameters.allowed_batch_sizes().end());
  std::int64_t before = 0;
  for (const std::int64_t size : options.allowed_batch_sizes) {
    if (size <= before) {
      return absl::InvalidArgumentError(absl::StrCat("Batching parameter allowed_batch_sizes: found ",
                                                     absl::StrJoin(options.allowed_batch_sizes, ", "),
                                                     ", expected positive numbers in increasing order."));
    }
    before = size;
  }
  if (before != 0 && before != options.execution_limit()) {
    return absl::InvalidArgumentError(
        absl::StrCat("Batching parameter allowed_batch_sizes: found ", before, " as the last, expected ",
                     options.execution_limit() == options.max_batch_size ? "max_batch_size, "
                                                                         : "max_execution_batch_size, ",
                     options.execution_limit(), "."));
  }
  return options;
}

absl::StatusOr<BatchingParameters> ModelBatchingParameters(const BatchingParameters& common,
                                                           const std::string& path) {
  const std::string file = tensorflow::io::JoinPath(path, "batching_params.pbtxt");
  if (!tensorflow::Env::Default()->FileExists(file).ok()) return common;
  BatchingParameters own;
  TFIPU_RETURN_IF_ERROR(ReadTextProto(file, &own));
  BatchingParameters merged = common;
  // Otherwise lists would grow, and a number of 0 would change nothing.
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  own.GetReflection()->ListFields(own, &fields);
  for (const auto* const field : fields) merged.GetReflection()->ClearField(&merged, field);
  merged.MergeFrom(own);
  return merged;
}

}  // namespace tfipu::serving
