#include "runtime_ops/engine_scope.h"

#include <gtest/gtest.h>

namespace tfipu {
namespace {

TEST(EngineScopeTest, GoesThroughSessionMetadata) {
  for (const char* model : {"m", "a#b", "a#1", "a/b", "#", "m#"}) {
    for (const int incarnation : {0, 1, 12}) {
      const EngineScope scope{model, 7, incarnation};
      tensorflow::SessionMetadata metadata;
      WriteScope(scope, &metadata);
      EXPECT_TRUE(ReadScope(&metadata) == scope) << metadata.name();
    }
  }
}

TEST(EngineScopeTest, OrdinaryModelsKeepTheirNames) {
  tensorflow::SessionMetadata metadata;
  WriteScope({"m", 7, 0}, &metadata);
  EXPECT_EQ(metadata.name(), "m");
  EXPECT_EQ(metadata.version(), 7);
}

TEST(EngineScopeTest, WithoutMetadataItIsTheProcess) {
  EXPECT_TRUE(ReadScope(nullptr) == EngineScope());
  const tensorflow::SessionMetadata none;
  EXPECT_TRUE(ReadScope(&none) == EngineScope());
}

}  // namespace
}  // namespace tfipu
