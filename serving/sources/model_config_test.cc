#include "serving/sources/model_config.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "serving/core/text_proto.h"

namespace tfipu::serving {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

absl::StatusOr<std::vector<ConfiguredModel>> Check(absl::string_view text) {
  tensorflow::serving::ModelServerConfig config;
  if (absl::Status status = ParseTextProto(text, "models.config", &config); !status.ok()) return status;
  return CheckModelConfig(config);
}

TEST(ModelConfigTest, ReadsModelsPoliciesAndLabels) {
  const auto models = Check(R"(
    model_config_list {
      config { name: "a" base_path: "/models/a" model_platform: "tensorflow" }
      config { name: "b" base_path: "gs://bucket/b" model_version_policy { latest { num_versions: 3 } } }
      config {
        name: "c" base_path: "relative" model_version_policy { specific { versions: 4 versions: 2 } }
        version_labels { key: "stable" value: 2 } version_labels { key: "canary" value: 4 }
      }
      config { name: "d" base_path: "/models/d" model_version_policy { all {} } }
    })");
  ASSERT_TRUE(models.ok()) << models.status();
  ASSERT_EQ(models->size(), 4);
  EXPECT_EQ((*models)[0].watched.policy.kind, VersionPolicy::Kind::kLatest);
  EXPECT_EQ((*models)[0].watched.policy.count, 1);
  EXPECT_EQ((*models)[1].watched.policy.count, 3);
  EXPECT_EQ((*models)[1].watched.base_path, "gs://bucket/b");
  EXPECT_THAT((*models)[2].watched.policy.versions, ElementsAre(2, 4));
  EXPECT_THAT((*models)[2].labels, ElementsAre(Pair("canary", 4), Pair("stable", 2)));
  EXPECT_EQ((*models)[2].watched.base_path.front(), '/');
  EXPECT_EQ((*models)[3].watched.policy.kind, VersionPolicy::Kind::kAll);
}

TEST(ModelConfigTest, NamesWhatIsWrong) {
  const auto message = [](absl::string_view text) { return std::string(Check(text).status().message()); };
  EXPECT_THAT(message("model_config_list {\n  config { nmae: \"a\" }\n}"), HasSubstr("line 2, column"));
  EXPECT_THAT(message("model_config_list { config { base_path: \"/a\" } }"), HasSubstr("number 1"));
  EXPECT_THAT(message("model_config_list { config { name: \"a\" } }"), HasSubstr("Model a has no base_path"));
  EXPECT_THAT(message("model_config_list { config { name: \"a\" base_path: \"/a\" }"
                      " config { name: \"a\" base_path: \"/b\" } }"),
              HasSubstr("twice"));
  EXPECT_THAT(
      message("model_config_list { config { name: \"a\" base_path: \"/a\" model_platform: \"caffe\" } }"),
      HasSubstr("found model_platform \"caffe\", expected \"tensorflow\""));
  EXPECT_THAT(message("model_config_list { config { name: \"a\" base_path: \"/a\""
                      " model_version_policy { specific {} } } }"),
              HasSubstr("names no version"));
  EXPECT_THAT(message("custom_model_config {}"), HasSubstr("custom_model_config"));
}

TEST(ModelConfigTest, DeepNestingIsAnError) {
  std::string text = "custom_model_config {";
  for (int i = 0; i < 100'000; ++i) text += "[type.googleapis.com/google.protobuf.Any]{";
  EXPECT_THAT(std::string(Check(text).status().message()),
              HasSubstr("more than 100 messages within each other"));
}

TEST(ModelConfigTest, LatestMayNameMoreVersionsThanAnIntHolds) {
  const auto models = Check(
      "model_config_list { config { name: \"a\" base_path: \"/a\""
      " model_version_policy { latest { num_versions: 4294967295 } } } }");
  ASSERT_TRUE(models.ok()) << models.status();
  EXPECT_THAT((*models)[0].watched.policy.Choose({1, 2}), ElementsAre(2, 1));
}

TEST(ModelConfigTest, UrlsOfFilesAreLocalPaths) {
  const auto models = Check(R"(model_config_list {
      config { name: "a" base_path: "file:///models/a" } config { name: "b" base_path: "file://localhost/models/b" } })");
  ASSERT_TRUE(models.ok()) << models.status();
  EXPECT_EQ((*models)[0].watched.base_path, "/models/a");
  EXPECT_EQ((*models)[1].watched.base_path, "/models/b");
  EXPECT_THAT(
      Check(R"(model_config_list { config { name: "a" base_path: "file://models" } })").status().ToString(),
      HasSubstr("file:///path"));
}

TEST(ModelConfigTest, AConfigListsAModelAtLeast) {
  for (const char* const text : {"", "# comment", "model_config_list {}"}) {
    EXPECT_THAT(Check(text).status().ToString(), HasSubstr("lists no model")) << text;
  }
}

}  // namespace
}  // namespace tfipu::serving
