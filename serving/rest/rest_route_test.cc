#include "serving/rest/rest_route.h"

#include <gtest/gtest.h>

#include <string>

namespace tfipu::serving {
namespace {

TEST(RestRouteTest, PathOfATarget) {
  EXPECT_EQ(PathOf("/v1/models/m"), "/v1/models/m");
  EXPECT_EQ(PathOf("/v1/models/%68pt%3Apredict?x=1&y=%20"), "/v1/models/%68pt%3Apredict");
  EXPECT_EQ(PathOf("http://host:8501/v1/models/m#part"), "/v1/models/m");
  EXPECT_EQ(PathOf("http://host"), "/");
  EXPECT_EQ(PathOf("*"), "*");
}

TEST(RestRouteTest, Routes) {
  const auto route = [](const std::string& path) {
    RestRoute found;
    EXPECT_TRUE(ParseRoute(path, &found).ok()) << path;
    return found;
  };
  EXPECT_EQ(route("/v1/models/m").call, RestCall::kStatus);
  EXPECT_EQ(route("/v1/models/m").model.name, "m");
  EXPECT_FALSE(route("/v1/models/m").model.version.has_value());
  EXPECT_EQ(route("/v1/models/m/metadata").call, RestCall::kMetadata);
  EXPECT_EQ(route("/v1/models/m:predict").call, RestCall::kPredict);
  EXPECT_EQ(route("/V1/Models/M/Versions/07:predict").model.name, "M");
  EXPECT_EQ(route("/V1/Models/M/Versions/07:predict").model.version, 7);
  EXPECT_EQ(route("/v1/models/m/versions/3:classify").call, RestCall::kClassify);
  EXPECT_EQ(route("/v1/models/m/versions/3:classify").model.version, 3);
  EXPECT_EQ(route("/v1/models/m/labels/stable:regress").call, RestCall::kRegress);
  EXPECT_EQ(route("/v1/models/m/labels/stable:regress").model.label, "stable");
  EXPECT_EQ(route("/v1/models/m/versions/3").call, RestCall::kStatus);
  EXPECT_EQ(route("/v1/models/m/stats").call, RestCall::kStatistics);
  EXPECT_EQ(route("/v1/models/m/versions/3/stats").call, RestCall::kStatistics);
  EXPECT_EQ(route("/v1/models/m/labels/l/metadata").call, RestCall::kMetadata);
  EXPECT_EQ(route("/v1/models/m/versions/9223372036854775807/metadata").model.version, 9223372036854775807);
  EXPECT_EQ(route("/v1/models/metadata").call, RestCall::kStatus);
  EXPECT_EQ(route("/v1/models/m/METADATA").call, RestCall::kStatus);
}

TEST(RestRouteTest, NamesAndLabelsAreDecodedAfterThePathWasTakenApart) {
  const auto route = [](const std::string& path) {
    RestRoute found;
    EXPECT_TRUE(ParseRoute(path, &found).ok()) << path;
    return found.model;
  };
  EXPECT_EQ(route("/v1/models/%68pt:predict").name, "hpt");
  EXPECT_EQ(route("/v1/models/a%2Fb%3Ac%3fd:predict").name, "a/b:c?d");
  EXPECT_EQ(route("/v1/models/m/labels/a%2fb%20c/metadata").label, "a/b c");
  EXPECT_EQ(route("/v1/models/m%2541").name, "m%41");
  EXPECT_EQ(route("/v1/models/m+n").name, "m+n");
}

TEST(RestRouteTest, RefusesOthers) {
  for (const char* path : {"/v1/",
                           "/v1/models",
                           "/v1/models/",
                           "/v1/model/m",
                           "/v1/models/m/",
                           "/v1/models/m:",
                           "/v1/models/m:frobnicate",
                           "/v1/models/m:PREDICT",
                           "/v1/models/m%3Apredict/x",
                           "/v1/models%2Fm",
                           "/v1/models/%",
                           "/v1/models/m%4",
                           "/v1/models/%zz%41",
                           "/v1/models/m/labels/%4g",
                           "/v1/%6dodels/m",
                           "/v1/models/:predict",
                           "/v1/models/m/versions",
                           "/v1/models/m/versions/:predict",
                           "/v1/models/m/versions/abc:predict",
                           "/v1/models/m/versions/-1",
                           "/v1/models/m/versions/+1",
                           "/v1/models/m/versions/ 1",
                           "/v1/models/m/versions/1x",
                           "/v1/models/m/versions/1%30",
                           "/v1/models/m/versions/99999999999999999999",
                           "/v1/models/m/versions/1/labels/l",
                           "/v1/models/m/metadata:predict",
                           "/v1/models/m/metadata/x",
                           "/v1/models/m/stats/x",
                           "/v1/models/m/stats:predict",
                           "/v1/models/m/other",
                           "/v1/models/m:predict/versions/1",
                           "/v1/models//metadata",
                           "/v1/models/m:predict:predict"}) {
    RestRoute route;
    EXPECT_EQ(ParseRoute(path, &route).code(), absl::StatusCode::kInvalidArgument) << path;
  }
  for (const char* path : {"", "/", "*", "/v1", "/%761/models/m", "/v2/models/m", "/metrics"}) {
    RestRoute route;
    EXPECT_EQ(ParseRoute(path, &route).code(), absl::StatusCode::kNotFound) << path;
  }
}

}  // namespace
}  // namespace tfipu::serving
