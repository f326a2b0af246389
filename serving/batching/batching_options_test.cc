#include "serving/batching/batching_options.h"

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "serving/core/text_proto.h"

namespace tfipu::serving {
namespace {

using tensorflow::serving::BatchingParameters;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

BatchingParameters Parse(absl::string_view text) {
  BatchingParameters parameters;
  EXPECT_TRUE(ParseTextProto(text, "test", &parameters).ok());
  return parameters;
}

TEST(BatchingOptionsTest, ReadsEveryField) {
  const auto options = BatchingOptionsFrom(Parse(R"(
    max_batch_size { value: 64 } batch_timeout_micros { value: 500 } max_enqueued_batches { value: 7 }
    num_batch_threads { value: 3 } thread_pool_name { value: "any" } allowed_batch_sizes: 8 allowed_batch_sizes: 32
    pad_variable_length_inputs: true enable_large_batch_splitting { value: true } max_execution_batch_size { value: 32 }
  )"));
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->max_batch_size, 64);
  EXPECT_EQ(options->batch_timeout, absl::Microseconds(500));
  EXPECT_EQ(options->max_enqueued_batches, 7);
  EXPECT_EQ(options->num_batch_threads, 3);
  EXPECT_THAT(options->allowed_batch_sizes, ElementsAre(8, 32));
  EXPECT_TRUE(options->pad_variable_length_inputs);
  EXPECT_EQ(options->execution_limit(), 32);
}

TEST(BatchingOptionsTest, NamesTheFieldThatIsWrong) {
  const auto message = [](absl::string_view text) {
    return std::string(BatchingOptionsFrom(Parse(text)).status().message());
  };
  EXPECT_THAT(message("max_batch_size { value: 0 }"),
              HasSubstr("max_batch_size: found 0, expected at least 1"));
  EXPECT_THAT(message("batch_timeout_micros { value: -1 }"), HasSubstr("batch_timeout_micros"));
  EXPECT_THAT(message("num_batch_threads { value: 0 }"), HasSubstr("num_batch_threads"));
  EXPECT_THAT(message("allowed_batch_sizes: 8 allowed_batch_sizes: 4"), HasSubstr("increasing"));
  EXPECT_THAT(message("max_batch_size { value: 16 } allowed_batch_sizes: 8"),
              HasSubstr("max_batch_size, 16"));
  EXPECT_THAT(message("max_batch_size { value: 16 } max_execution_batch_size { value: 17 }"),
              HasSubstr("at most"));
}

TEST(BatchingOptionsTest, AModelsOwnFieldsReplaceTheCommonOnes) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / "batching_options_test";
  std::filesystem::create_directories(folder);
  const BatchingParameters common = Parse(
      "max_batch_size { value: 8 } num_batch_threads { value: 2 } allowed_batch_sizes: 8"
      " batch_timeout_micros { value: 500 }");
  EXPECT_EQ(ModelBatchingParameters(common, folder.string())->max_batch_size().value(), 8);
  std::ofstream(folder / "batching_params.pbtxt") << "max_batch_size { value: 4 } allowed_batch_sizes: 4"
                                                     " batch_timeout_micros { value: 0 }";
  const auto merged = ModelBatchingParameters(common, folder.string());
  ASSERT_TRUE(merged.ok());
  EXPECT_EQ(merged->max_batch_size().value(), 4);
  EXPECT_EQ(merged->num_batch_threads().value(), 2);
  EXPECT_EQ(merged->batch_timeout_micros().value(), 0);
  EXPECT_THAT(merged->allowed_batch_sizes(), ElementsAre(4));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tfipu::serving
