#include "serving/core/version_policy.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu::serving {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(VersionPolicyTest, LatestTakesTheLargestNumbers) {
  VersionPolicy policy;
  EXPECT_THAT(policy.Choose({1, 5, 20}), ElementsAre(20));
  policy.count = 2;
  EXPECT_THAT(policy.Choose({1, 5, 20}), ElementsAre(20, 5));
  EXPECT_THAT(policy.Choose({}), IsEmpty());
}

TEST(VersionPolicyTest, AllTakesAll) {
  VersionPolicy policy;
  policy.kind = VersionPolicy::Kind::kAll;
  EXPECT_THAT(policy.Choose({1, 5, 20}), ElementsAre(20, 5, 1));
}

TEST(VersionPolicyTest, SpecificTakesThoseThatExist) {
  VersionPolicy policy;
  policy.kind = VersionPolicy::Kind::kSpecific;
  policy.versions = {1, 7, 20};
  EXPECT_THAT(policy.Choose({1, 5, 20}), ElementsAre(20, 1));
}

}  // namespace
}  // namespace tfipu::serving
