#include "serving/rest/example_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tensorflow/core/example/example.pb.h"

namespace tfipu::serving {
namespace {

absl::Status Parse(const std::string& body, tensorflow::serving::Input* input) {
  std::string name;
  input->Clear();
  return ParseExamplesJson(body, 20, &name, input);
}

TEST(ExampleJsonTest, KindsOfFeatures) {
  tensorflow::serving::Input input;
  std::string name;
  ASSERT_TRUE(
      ParseExamplesJson(
          R"({"examples": [{"i": 3, "f": 2.5, "s": "x", "b": {"b64": "/wA="}, "li": [1, -2], "lf": [1.0, NaN],
                                    "ls": ["a", {"b64": "Yg=="}], "e": [], "t": true, "lt": [2, false], "big": -9223372036854775809,
                                    "bigger": [18446744073709551616, 0.5]}, {}], "signature_name": "sig"})",
          20, &name, &input)
          .ok());
  EXPECT_EQ(name, "sig");
  ASSERT_EQ(input.example_list().examples_size(), 2);
  const auto& features = input.example_list().examples(0).features().feature();
  EXPECT_EQ(features.at("i").int64_list().value(0), 3);
  EXPECT_EQ(features.at("f").float_list().value(0), 2.5f);
  EXPECT_EQ(features.at("s").bytes_list().value(0), "x");
  EXPECT_EQ(features.at("b").bytes_list().value(0), std::string("\xff\0", 2));
  EXPECT_EQ(features.at("li").int64_list().value_size(), 2);
  EXPECT_EQ(features.at("lf").float_list().value_size(), 2);
  EXPECT_EQ(features.at("ls").bytes_list().value(1), "b");
  EXPECT_EQ(features.at("e").kind_case(), tensorflow::Feature::KIND_NOT_SET);
  EXPECT_EQ(features.at("t").int64_list().value(0), 1);
  EXPECT_EQ(features.at("lt").int64_list().value(1), 0);
  EXPECT_EQ(features.at("big").float_list().value(0), -9223372036854775808.0f);
  EXPECT_EQ(features.at("bigger").float_list().value(0), 18446744073709551616.0f);
}

TEST(ExampleJsonTest, Context) {
  tensorflow::serving::Input input;
  ASSERT_TRUE(Parse(R"({"context": {"tag": "ctx"}, "examples": [{"age": 1.0}, {"age": 2.0}]})", &input).ok());
  ASSERT_TRUE(input.has_example_list_with_context());
  EXPECT_EQ(input.example_list_with_context().examples_size(), 2);
  EXPECT_EQ(input.example_list_with_context().context().features().feature().at("tag").bytes_list().value(0),
            "ctx");
}

TEST(ExampleJsonTest, Refuses) {
  tensorflow::serving::Input input;
  for (const char* body : {"",
                           "{}",
                           "[]",
                           R"({"examples": {}})",
                           R"({"examples": [1.0]})",
                           R"({"examples": [[]]})",
                           R"({"examples": [{"a": [true, 0.5]}]})",
                           R"({"examples": [{"a": ["x", true]}]})",
                           R"({"examples": [{"a": tru}]})",
                           R"({"examples": [{"a": null}]})",
                           R"({"examples": [{"a": [[1]]}]})",
                           R"({"examples": [{"a": [1, "x"]}]})",
                           R"({"examples": [{"a": [1, 2.5]}]})",
                           R"({"examples": [{"a": 18446744073709551615}]})",
                           R"({"examples": [{"a": [1, 99999999999999999999]}]})",
                           R"({"examples": [{"a": 1, "a": 2}]})",
                           R"({"examples": [{"a": {"c": 1}}]})",
                           R"({"examples": [{}], "examples": [{}]})",
                           R"({"context": 3, "examples": [{}]})",
                           R"({"signature_name": 3, "examples": [{}]})",
                           R"({"examples": [{}]} x)",
                           R"({"examples": [{"a": 1},]})"}) {
    absl::Status status = Parse(body, &input);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << body;
    EXPECT_FALSE(status.message().empty());
  }
}

TEST(ExampleJsonTest, Replies) {
  tensorflow::serving::ClassificationResult classes;
  auto* first = classes.add_classifications();
  first->add_classes()->set_label("a\"b");
  first->mutable_classes(0)->set_score(0.5f);
  first->add_classes()->set_score(3);
  classes.add_classifications();
  std::string body;
  WriteClassifyJson(classes, &body);
  EXPECT_EQ(body, R"({"results": [[["a\"b", 0.5], ["", 3.0]], []]})");
  tensorflow::serving::RegressionResult values;
  values.add_regressions()->set_value(1.5f);
  values.add_regressions()->set_value(-2);
  body.clear();
  WriteRegressJson(values, &body);
  EXPECT_EQ(body, R"({"results": [1.5, -2.0]})");
}

}  // namespace
}  // namespace tfipu::serving
