#include "cc/engine/engine_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "cc/engine/fake_device.h"
#include "cc/engine/test_call.h"
#include "cc/executable/test_executable.h"

namespace tfipu {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kOwnTimeout = -absl::Seconds(1);

class EngineManagerTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::shared_ptr<Engine>> Start(const EngineKey& key, const FakeShape& shape) {
    return manager_.StartOrAttach(key, FakeExecutable(shape)->path(), kOwnTimeout, {});
  }

  const std::shared_ptr<FakeScript> script_ = std::make_shared<FakeScript>();
  FakeBackend backend_{script_};
  const Backends backends_{{&backend_}};
  EngineManager manager_{backends_};
};

TEST_F(EngineManagerTest, StartsOnceAndAttaches) {
  auto first = Start({{}, "a"}, {});
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = Start({{}, "a"}, {});
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(*first, *second);
  EXPECT_EQ(*manager_.Find({{}, "a"}), *first);
  EXPECT_EQ(script_->devices(), 1);
}

TEST_F(EngineManagerTest, AttachesToARunningEngineWithoutItsFile) {
  const std::string path = TestPath("vanishing");
  WriteBytes(path, ReadBytes(FakeExecutable({})->path()));
  auto first = manager_.StartOrAttach({{}, "a"}, path, kOwnTimeout, {});
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(std::remove(path.c_str()), 0);
  EXPECT_TRUE(manager_.StartOrAttach({{}, "a"}, path, kOwnTimeout, {}).ok());
}

TEST_F(EngineManagerTest, SameContentsAtAnotherPathAttach) {
  const std::string path = TestPath("copy");
  WriteBytes(path, ReadBytes(FakeExecutable({})->path()));
  auto first = Start({{}, "a"}, {});
  auto second = manager_.StartOrAttach({{}, "a"}, path, kOwnTimeout, {});
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(*first, *second);
}

TEST_F(EngineManagerTest, OtherContentsUnderARunningNameAreRefused) {
  auto first = Start({{}, "a"}, {});
  auto second = Start({{}, "a"}, {.batch = 2});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(second.status().message(), HasSubstr("'a'"));
}

TEST_F(EngineManagerTest, ScopesKeepNamesApartAndShareTheProgram) {
  auto first = Start({{"model", 1}, "a"}, {});
  auto second = Start({{"model", 2}, "a"}, {});
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE(*first, *second);
  EXPECT_EQ(script_->loads(), 1);
  EXPECT_EQ(manager_.List().size(), 2);
  EXPECT_EQ(manager_.List()[0].first.scope, (EngineScope{"model", 1}));
}

TEST_F(EngineManagerTest, EnginesEndWithTheirLastHolder) {
  auto engine = Start({{}, "a"}, {});
  ASSERT_TRUE(engine.ok());
  engine->reset();
  EXPECT_EQ(script_->destroyed(), 1);
  EXPECT_EQ(manager_.Find({{}, "a"}).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(manager_.Find({{}, "a"}).status().message(), "Engine a does not exist.");
  EXPECT_TRUE(manager_.List().empty());
  EXPECT_TRUE(Start({{}, "a"}, {.batch = 2}).ok());
  EXPECT_EQ(script_->loads(), 2);
}

TEST_F(EngineManagerTest, StoppedEngineIsForgottenAndStartsAfresh) {
  auto engine = Start({{}, "a"}, {});
  EXPECT_TRUE(manager_.Stop({{}, "a"}).ok());
  EXPECT_FALSE(manager_.Find({{}, "a"}).ok());
  EXPECT_EQ(manager_.Stop({{}, "a"}).code(), absl::StatusCode::kNotFound);
  auto again = Start({{}, "a"}, {});
  ASSERT_TRUE(again.ok());
  EXPECT_NE(*engine, *again);
  TestCall call(1, 1);
  (*again)->Enqueue(call.Make());
  EXPECT_EQ(call.Await(), absl::OkStatus());
}

TEST_F(EngineManagerTest, ConcurrentStartsMakeOneEngine) {
  std::vector<std::shared_ptr<Engine>> engines(8);
  std::vector<std::thread> threads;
  for (auto& engine : engines) threads.emplace_back([&] { engine = *Start({{}, "a"}, {.batch = 3}); });
  for (std::thread& thread : threads) thread.join();
  for (auto& engine : engines) EXPECT_EQ(engine, engines[0]);
  EXPECT_EQ(script_->devices(), 1);
}

TEST_F(EngineManagerTest, DefaultsOverrideTheExecutable) {
  manager_.set_defaults({.replicas = 3});
  auto engine = Start({{}, "a"}, {});
  EXPECT_EQ(script_->devices(), 3);
}

TEST_F(EngineManagerTest, MissingAndIncompatibleFilesAreErrors) {
  EXPECT_EQ(manager_.StartOrAttach({{}, "a"}, TestPath("nothing"), kOwnTimeout, {}).status().code(),
            absl::StatusCode::kNotFound);
  ExecutableHeader header = FakeExecutable({})->header();
  header.mutable_build()->set_runtime_hash("0123456789abcdef");
  ExecutableWriter writer;
  AddTestBlobs(header, writer);
  const std::string path = TestPath("old");
  ASSERT_TRUE(writer.Write(header, path).ok());
  auto old = manager_.StartOrAttach({{}, "a"}, path, kOwnTimeout, {});
  EXPECT_EQ(old.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(old.status().message(), HasSubstr("0123456789abcdef"));
  EXPECT_EQ(script_->loads(), 0);
}

}  // namespace
}  // namespace tfipu
