#include "serving/monitoring/request_log.h"

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorflow/core/lib/io/record_reader.h"
#include "tensorflow/core/platform/env.h"

namespace tfipu::serving {
namespace {

namespace fs = std::filesystem;
using tensorflow::serving::PredictionLog;
using ::testing::HasSubstr;

ConfiguredModel Model(const std::string& name, const std::string& prefix, double rate) {
  ConfiguredModel model;
  model.watched.name = name;
  model.logging.mutable_log_collector_config()->set_type("tfrecord");
  model.logging.mutable_log_collector_config()->set_filename_prefix(prefix);
  model.logging.mutable_sampling_config()->set_sampling_rate(rate);
  return model;
}

std::vector<PredictionLog> ReadAll(const fs::path& folder) {
  std::vector<PredictionLog> logs;
  for (const auto& file : fs::directory_iterator(folder)) {
    std::unique_ptr<tensorflow::RandomAccessFile> source;
    EXPECT_TRUE(tensorflow::Env::Default()->NewRandomAccessFile(file.path(), &source).ok());
    tensorflow::io::SequentialRecordReader reader(source.get());
    tensorflow::tstring record;
    while (reader.ReadRecord(&record).ok()) {
      logs.emplace_back();
      EXPECT_TRUE(logs.back().ParseFromArray(record.data(), record.size()));
    }
  }
  return logs;
}

TEST(RequestLogTest, WritesWhatWasSampled) {
  const fs::path folder = fs::path(::testing::TempDir()) / absl::StrCat("request_log_test", getpid());
  fs::create_directories(folder);
  {
    RequestLog log;
    EXPECT_FALSE(log.Wants({"all", 3}));
    log.Configure({Model("all", (folder / "all").string(), 1), Model("half", (folder / "half").string(), 0.5),
                   Model("none", "", 0)});
    int half = 0;
    for (int i = 0; i < 1000; ++i) {
      EXPECT_TRUE(log.Wants({"all", 3}));
      EXPECT_FALSE(log.Wants({"none", 1}));
      EXPECT_FALSE(log.Wants({"unknown", 1}));
      half += log.Wants({"half", 1}) ? 1 : 0;
    }
    EXPECT_GT(half, 350);
    EXPECT_LT(half, 650);
    for (int i = 0; i < 10; ++i) {
      auto record = std::make_unique<PredictionLog>();
      record->mutable_predict_log()->mutable_request()->mutable_model_spec()->set_name(
          absl::StrCat("call ", i));
      log.Add({"all", 3}, std::move(record));
    }
  }
  const std::vector<PredictionLog> logs = ReadAll(folder);
  ASSERT_EQ(logs.size(), 10);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(logs[i].predict_log().request().model_spec().name(), absl::StrCat("call ", i));
    EXPECT_EQ(logs[i].log_metadata().model_spec().name(), "all");
    EXPECT_EQ(logs[i].log_metadata().model_spec().version().value(), 3);
    EXPECT_EQ(logs[i].log_metadata().sampling_config().sampling_rate(), 1);
    EXPECT_GT(logs[i].log_metadata().timestamp_secs(), 0);
  }
  fs::remove_all(folder);
}

TEST(RequestLogTest, RefusesConfigsThatItCannotFollow) {
  const auto message = [](const ConfiguredModel& model) {
    return std::string(RequestLog::Check({model}).message());
  };
  EXPECT_EQ(message(Model("m", "/tmp/m", 0.1)), "");
  EXPECT_EQ(message(ConfiguredModel()), "");
  EXPECT_THAT(message(Model("m", "/tmp/m", 1.5)),
              HasSubstr("Model m: logging_config: found sampling_rate 1.5"));
  EXPECT_THAT(message(Model("m", "", 0.1)), HasSubstr("filename_prefix"));
  ConfiguredModel model = Model("m", "/tmp/m", 0.1);
  model.logging.mutable_log_collector_config()->set_type("kafka");
  EXPECT_THAT(message(model), HasSubstr("found log_collector_config of type \"kafka\""));
  model = Model("m", "/tmp/m", 0.1);
  model.logging.mutable_sampling_config()->add_per_task_sampling_configs();
  EXPECT_THAT(message(model), HasSubstr("found per_task_sampling_configs"));
  model = Model("m", "/tmp/m", 0.1);
  model.logging.mutable_custom_logging_config();
  EXPECT_THAT(message(model), HasSubstr("found custom_logging_config"));
}

}  // namespace
}  // namespace tfipu::serving
