#include "cc/engine/engine_property.h"

#include <gtest/gtest.h>

namespace tfipu {
namespace {

TEST(EnginePropertyTest, EveryCallIsAnsweredOnceWithItsOwnRows) { RunEngineProperty(4000); }

}  // namespace
}  // namespace tfipu
