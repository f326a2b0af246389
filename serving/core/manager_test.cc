#include "serving/core/manager.h"

#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FakeServable : public Servable {
 public:
  FakeServable(VersionSource source, std::function<void()> on_delete)
      : source_(std::move(source)), on_delete_(std::move(on_delete)) {}
  ~FakeServable() override { on_delete_(); }
  const ServableId& id() const override { return source_.id; }
  const std::map<std::string, Signature, std::less<>>& signatures() const override { return signatures_; }
  void Start(ServableCall, CallDone done) const override { done(absl::OkStatus()); }
  const std::string& path() const { return source_.path; }

 private:
  const VersionSource source_;
  const std::function<void()> on_delete_;
  std::map<std::string, Signature, std::less<>> signatures_;
};

// Decides how loads end, and counts.
class ManagerTest : public ::testing::Test {
 protected:
  void Make(ManagerOptions options = {}) {
    options.load_threads = 2;
    options.on_change = [this](const ServableState& state) {
      absl::MutexLock lock(&mutex_);
      history_.push_back(state);
    };
    manager_ = std::make_unique<Manager>(std::move(options), [this](const VersionSource& source) {
      return std::make_unique<FakeLoader>(this, source);
    });
  }

  struct FakeLoader : Loader {
    FakeLoader(ManagerTest* test, VersionSource source) : test(test), source(std::move(source)) {}
    absl::Status CheckWhole() override { return test->CheckWhole(source); }
    absl::StatusOr<std::unique_ptr<const Servable>> Load() override { return test->Load(source); }
    ManagerTest* const test;
    const VersionSource source;
  };

  absl::Status CheckWhole(const VersionSource& source) {
    return source.stamp == "partial" ? NotWholeError("variables") : absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<const Servable>> Load(const VersionSource& source) {
    if (source.stamp == "huge") throw std::bad_alloc();
    absl::MutexLock lock(&mutex_);
    const std::pair<std::string, std::int64_t> key(source.id.name, source.id.version);
    const auto held = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return held_.count(key) == 0; };
    mutex_.Await(absl::Condition(&held));
    ++loads_[key];
    if (auto& left = failures_[key]; left.first > 0) {
      --left.first;
      return left.second;
    }
    return std::make_unique<const FakeServable>(source, [this] {
      absl::MutexLock delete_lock(&mutex_);
      deleted_in_.insert(std::this_thread::get_id());
    });
  }

  void Fail(const std::string& name, std::int64_t version, int times, absl::Status status) {
    absl::MutexLock lock(&mutex_);
    failures_[{name, version}] = {times, std::move(status)};
  }
  // Loads of this version wait until Release().
  void Hold(const std::string& name, std::int64_t version) {
    absl::MutexLock lock(&mutex_);
    held_.insert({name, version});
  }
  void Release(const std::string& name, std::int64_t version) {
    absl::MutexLock lock(&mutex_);
    held_.erase({name, version});
  }
  int Loads(const std::string& name, std::int64_t version) {
    absl::MutexLock lock(&mutex_);
    return loads_[{name, version}];
  }

  static VersionSource Source(const std::string& name, std::int64_t version,
                              const std::string& folder = "/models", const std::string& stamp = "",
                              const std::string& contents = "") {
    return {{name, version}, folder + "/" + std::to_string(version), stamp, contents};
  }
  void Aspire(const std::string& name, const std::vector<std::int64_t>& versions,
              const std::string& folder = "/models", const std::string& stamp = "") {
    std::vector<VersionSource> sources;
    for (const std::int64_t version : versions) sources.push_back(Source(name, version, folder, stamp));
    manager_->Aspire(name, std::move(sources));
  }

  ServableStage Stage(const std::string& name, std::int64_t version) {
    const auto states = manager_->States({name, version, ""});
    return states.ok() ? states->front().stage : ServableStage::kStart;
  }
  void WaitFor(const std::string& name, std::int64_t version, ServableStage stage) {
    while (Stage(name, version) != stage) absl::SleepFor(absl::Milliseconds(1));
  }
  std::int64_t Latest(const std::string& name) {
    const auto found = manager_->Find({name, std::nullopt, ""});
    return found.ok() ? (*found)->id().version : -1;
  }

  absl::Mutex mutex_;
  std::map<std::pair<std::string, std::int64_t>, std::pair<int, absl::Status>> failures_
      ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<std::string, std::int64_t>, int> loads_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<std::string, std::int64_t>> held_ ABSL_GUARDED_BY(mutex_);
  std::set<std::thread::id> deleted_in_ ABSL_GUARDED_BY(mutex_);
  std::vector<ServableState> history_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Manager> manager_;
};

TEST_F(ManagerTest, ServesTheLargestVersionUnlessOneIsNamed) {
  Make();
  Aspire("m", {1, 3});
  ASSERT_TRUE(manager_->WaitUntilSettled({"m"}, absl::InfiniteFuture()));
  EXPECT_EQ(Latest("m"), 3);
  EXPECT_EQ((*manager_->Find({"m", 1, ""}))->id().version, 1);
  EXPECT_EQ(manager_->Find({"m", 2, ""}).status(),
            absl::NotFoundError("Servable not found for request: Specific(m, 2)"));
  EXPECT_EQ(manager_->Find({"n", std::nullopt, ""}).status(),
            absl::NotFoundError("Servable not found for request: Latest(n)"));
}

TEST_F(ManagerTest, RefusesRequestsThatNameNoModelOrTwoVersions) {
  Make();
  Aspire("m", {1});
  EXPECT_TRUE(absl::IsInvalidArgument(manager_->Find({"", std::nullopt, ""}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(manager_->Find({"m", 1, "stable"}).status()));
  EXPECT_EQ(manager_->Find({"m", std::nullopt, "nope"}).status(),
            absl::InvalidArgumentError("Unrecognized servable version label: nope"));
}

TEST_F(ManagerTest, KeepsTheOldVersionUntilTheNewOneIsAvailable) {
  Make();
  Aspire("m", {1});
  WaitFor("m", 1, ServableStage::kAvailable);
  Hold("m", 2);
  Aspire("m", {2});
  WaitFor("m", 2, ServableStage::kLoading);
  EXPECT_EQ(Latest("m"), 1);
  Release("m", 2);
  WaitFor("m", 1, ServableStage::kEnd);
  EXPECT_EQ(Latest("m"), 2);
}

TEST_F(ManagerTest, AFailedNewVersionDoesNotCostTheOldOne) {
  Make();
  Aspire("m", {1});
  WaitFor("m", 1, ServableStage::kAvailable);
  Fail("m", 2, 1, absl::InvalidArgumentError("bad executable"));
  Aspire("m", {2});
  WaitFor("m", 2, ServableStage::kEnd);
  Aspire("m", {2});
  EXPECT_EQ(Latest("m"), 1);
  EXPECT_EQ(Loads("m", 2), 1);
  EXPECT_EQ(manager_->States({"m", 2, ""})->front().status, absl::InvalidArgumentError("bad executable"));
}

TEST_F(ManagerTest, AFailedVersionIsTriedAgainWhenItsFilesChange) {
  Make();
  Fail("m", 1, 1, absl::NotFoundError("no such file"));
  Aspire("m", {1}, "/models", "incomplete");
  WaitFor("m", 1, ServableStage::kEnd);
  Aspire("m", {1}, "/models", "complete");
  WaitFor("m", 1, ServableStage::kAvailable);
  EXPECT_EQ(Loads("m", 1), 2);
}

TEST_F(ManagerTest, UnloadsFirstWhenResourcesAreToBePreserved) {
  ManagerOptions options;
  options.transition = ManagerOptions::Transition::kPreserveResources;
  Make(options);
  Aspire("m", {1});
  WaitFor("m", 1, ServableStage::kAvailable);
  auto held = *manager_->Find({"m", 1, ""});
  Aspire("m", {2});
  WaitFor("m", 1, ServableStage::kUnloading);
  EXPECT_EQ(Stage("m", 2), ServableStage::kStart);
  EXPECT_EQ(Latest("m"), -1);
  held.reset();
  WaitFor("m", 2, ServableStage::kAvailable);
}

TEST_F(ManagerTest, RetriesTransientErrorsOnly) {
  ManagerOptions options;
  options.max_load_retries = 2;
  options.load_retry_interval = absl::Milliseconds(1);
  Make(options);
  Fail("transient", 1, 2, absl::UnavailableError("busy"));
  Fail("lasting", 1, 3, absl::UnavailableError("busy"));
  Fail("permanent", 1, 1, absl::FailedPreconditionError("wrong version"));
  Aspire("transient", {1});
  Aspire("lasting", {1});
  Aspire("permanent", {1});
  ASSERT_TRUE(manager_->WaitUntilSettled({"transient", "lasting", "permanent"}, absl::InfiniteFuture()));
  EXPECT_EQ(Stage("transient", 1), ServableStage::kAvailable);
  EXPECT_EQ(Stage("lasting", 1), ServableStage::kEnd);
  EXPECT_EQ(Loads("lasting", 1), 3);
  EXPECT_EQ(Stage("permanent", 1), ServableStage::kEnd);
  EXPECT_EQ(Loads("permanent", 1), 1);
}

TEST_F(ManagerTest, TakesAVersionWhenItIsWhole) {
  for (const auto transition :
       {ManagerOptions::Transition::kPreserveAvailability, ManagerOptions::Transition::kPreserveResources}) {
    ManagerOptions options;
    options.transition = transition;
    Make(options);
    Aspire("m", {1});
    WaitFor("m", 1, ServableStage::kAvailable);
    Aspire("m", {2}, "/models", "partial");
    // Nobody waits for it: who copies it may have stopped.
    ASSERT_TRUE(manager_->WaitUntilSettled({"m"}, absl::InfiniteFuture()));
    manager_->WaitUntilTried();
    const ServableState state = manager_->States({"m", 2, ""})->front();
    EXPECT_EQ(state.stage, ServableStage::kStart);
    EXPECT_EQ(state.wait, ServableWait::kFiles);
    EXPECT_EQ(state.status.message(), "waits for variables");
    EXPECT_EQ(Latest("m"), 1);
    Aspire("m", {2}, "/models", "partial");
    EXPECT_EQ(Stage("m", 2), ServableStage::kStart);
    Aspire("m", {2}, "/models", "whole");
    WaitFor("m", 2, ServableStage::kAvailable);
    WaitFor("m", 1, ServableStage::kEnd);
    EXPECT_EQ(Latest("m"), 2);
  }
}

TEST_F(ManagerTest, ASpareStandsInForAVersionThatCannotBeServed) {
  Make();
  Fail("m", 3, 1, absl::InvalidArgumentError("broken"));
  const auto aspire = [&](const std::string& stamp, std::int64_t number) {
    manager_->Aspire("m", {Source("m", number, "/models", stamp)}, {Source("m", 2), Source("m", 1)});
  };
  aspire("partial", 3);
  manager_->WaitUntilTried();
  EXPECT_EQ(Latest("m"), 2);
  EXPECT_EQ(Loads("m", 1), 0);
  EXPECT_EQ(Stage("m", 3), ServableStage::kStart);
  // It fails, and then it is right.
  aspire("broken", 3);
  WaitFor("m", 3, ServableStage::kEnd);
  EXPECT_EQ(Latest("m"), 2);
  aspire("whole", 3);
  WaitFor("m", 3, ServableStage::kAvailable);
  WaitFor("m", 2, ServableStage::kEnd);
  EXPECT_EQ(Latest("m"), 3);
  EXPECT_EQ(Loads("m", 1), 0);
}

TEST_F(ManagerTest, OtherContentsAreLoadedBesideTheOldOnesAndTakeTheirPlace) {
  Make();
  manager_->Aspire("m", {Source("m", 1, "/models", "a", "half a vocabulary")});
  WaitFor("m", 1, ServableStage::kAvailable);
  manager_->Aspire("m", {Source("m", 1, "/models", "b", "half a vocabulary")});
  EXPECT_EQ(Loads("m", 1), 1);
  manager_->Aspire("m", {Source("m", 1, "/models", "partial", "no vocabulary")});
  ASSERT_TRUE(manager_->WaitUntilSettled({"m"}, absl::InfiniteFuture()));
  EXPECT_EQ(Latest("m"), 1);
  manager_->Aspire("m", {Source("m", 1, "/models", "c", "a vocabulary")});
  ASSERT_TRUE(manager_->WaitUntilSettled({"m"}, absl::InfiniteFuture()));
  EXPECT_EQ(Loads("m", 1), 2);
  EXPECT_EQ(Latest("m"), 1);
  manager_->Stop();
  EXPECT_EQ(Latest("m"), -1);
}

TEST_F(ManagerTest, LoadsThatHangHoldUpNobody) {
  ManagerOptions options;
  options.load_timeout = absl::Milliseconds(1);
  Make(options);
  // As many as there are threads.
  Hold("a", 1);
  Hold("b", 1);
  Aspire("a", {1});
  Aspire("b", {1});
  Aspire("c", {1});
  WaitFor("c", 1, ServableStage::kAvailable);
  ASSERT_TRUE(manager_->WaitUntilSettled({"a", "b", "c"}, absl::InfiniteFuture()));
  manager_->WaitUntilTried();
  const ServableState state = manager_->States({"a", 1, ""})->front();
  EXPECT_EQ(state.stage, ServableStage::kLoading);
  EXPECT_EQ(state.wait, ServableWait::kHungLoad);
  EXPECT_THAT(std::string(state.status.message()), HasSubstr("more than 1ms"));
  // It may have been slow only.
  Release("a", 1);
  WaitFor("a", 1, ServableStage::kAvailable);
  EXPECT_FALSE(manager_->Stop(absl::Now()));
  EXPECT_EQ(Stage("a", 1), ServableStage::kEnd);
  Release("b", 1);
  EXPECT_TRUE(manager_->Stop());
}

TEST_F(ManagerTest, AnExceptionInALoadCostsOneVersion) {
  ManagerOptions options;
  options.max_load_retries = 0;
  Make(options);
  Aspire("m", {1}, "/models", "huge");
  WaitFor("m", 1, ServableStage::kEnd);
  EXPECT_TRUE(absl::IsResourceExhausted(manager_->States({"m", 1, ""})->front().status));
  Aspire("n", {1});
  WaitFor("n", 1, ServableStage::kAvailable);
}

TEST_F(ManagerTest, NobodyWaitsForLoadsWhenLoadingIsStopped) {
  Make();
  Aspire("m", {1});
  WaitFor("m", 1, ServableStage::kAvailable);
  Hold("m", 2);
  Aspire("m", {2});
  WaitFor("m", 2, ServableStage::kLoading);
  std::thread waiter([&] {
    manager_->WaitUntilTried();
    EXPECT_FALSE(manager_->WaitUntilSettled({"m"}, absl::InfiniteFuture()));
  });
  manager_->StopLoading();
  waiter.join();
  EXPECT_EQ(Latest("m"), 1);
  Release("m", 2);
}

TEST_F(ManagerTest, GivesUpARetryThatIsNotWantedAnyMore) {
  ManagerOptions options;
  options.load_retry_interval = absl::Hours(1);
  Make(options);
  Fail("m", 1, 1, absl::UnavailableError("busy"));
  Aspire("m", {1});
  manager_->WaitUntilTried();
  EXPECT_EQ(Stage("m", 1), ServableStage::kLoading);
  Aspire("m", {});
  EXPECT_EQ(Stage("m", 1), ServableStage::kEnd);
}

TEST_F(ManagerTest, UnloadsWhenTheLastCallEndsAndNotInItsThread) {
  Make();
  Aspire("m", {1});
  WaitFor("m", 1, ServableStage::kAvailable);
  auto call = *manager_->Find({"m", std::nullopt, ""});
  Aspire("m", {});
  EXPECT_EQ(Stage("m", 1), ServableStage::kUnloading);
  EXPECT_EQ(Latest("m"), -1);
  EXPECT_EQ(call->id().version, 1);
  call.reset();
  WaitFor("m", 1, ServableStage::kEnd);
  absl::MutexLock lock(&mutex_);
  EXPECT_EQ(deleted_in_.count(std::this_thread::get_id()), 0);
}

TEST_F(ManagerTest, SleepingThreadsKeepNothingLoaded) {
  Make();
  Aspire("m", {1});
  WaitFor("m", 1, ServableStage::kAvailable);
  absl::Notification found, finish;
  std::thread sleeper([&] {
    EXPECT_TRUE(manager_->Find({"m", 1, ""}).ok());
    found.Notify();
    finish.WaitForNotification();
  });
  found.WaitForNotification();
  Aspire("m", {});
  WaitFor("m", 1, ServableStage::kEnd);
  finish.Notify();
  sleeper.join();
}

TEST_F(ManagerTest, AnotherPathIsLoadedBesideTheOldOneAndTakesItsPlace) {
  Make();
  Aspire("m", {1}, "/old");
  WaitFor("m", 1, ServableStage::kAvailable);
  Hold("m", 1);
  Aspire("m", {1}, "/new");
  const auto path = [&] { return static_cast<const FakeServable&>(**manager_->Find({"m", 1, ""})).path(); };
  EXPECT_EQ(path(), "/old/1");
  Release("m", 1);
  while (path() != "/new/1") absl::SleepFor(absl::Milliseconds(1));
  manager_->Stop();
  EXPECT_EQ(Loads("m", 1), 2);
}

TEST_F(ManagerTest, LabelsMoveWhenTheirNewVersionIsAvailable) {
  Make();
  Aspire("m", {1});
  manager_->SetLabels("m", {{"stable", 1}});
  WaitFor("m", 1, ServableStage::kAvailable);
  Hold("m", 2);
  manager_->SetLabels("m", {{"stable", 2}, {"canary", 2}});
  Aspire("m", {2});
  EXPECT_EQ((*manager_->Find({"m", std::nullopt, "stable"}))->id().version, 1);
  EXPECT_TRUE(absl::IsNotFound(manager_->Find({"m", std::nullopt, "canary"}).status()));
  Release("m", 2);
  WaitFor("m", 2, ServableStage::kAvailable);
  EXPECT_EQ((*manager_->Find({"m", std::nullopt, "stable"}))->id().version, 2);
  EXPECT_EQ(manager_->States({"m", std::nullopt, "canary"})->front().id.version, 2);
}

TEST_F(ManagerTest, StatesListVersionsLatestFirstAndRememberAFewThatEnded) {
  Make();
  for (std::int64_t version = 1; version <= 40; ++version) {
    Aspire("m", {version});
    WaitFor("m", version, ServableStage::kAvailable);
  }
  Aspire("m", {});
  WaitFor("m", 40, ServableStage::kEnd);
  const auto states = manager_->States({"m", std::nullopt, ""});
  ASSERT_TRUE(states.ok());
  EXPECT_EQ(states->front().id.version, 40);
  EXPECT_LE(states->size(), Manager::kRememberedEnds);
  EXPECT_EQ(manager_->States({"m", 99, ""}).status(),
            absl::NotFoundError("Could not find version 99 of model m"));
  EXPECT_EQ(manager_->States({"n", std::nullopt, ""}).status(),
            absl::NotFoundError("Could not find any versions of model n"));
}

TEST_F(ManagerTest, TellsEachChangeOfState) {
  Make();
  Aspire("m", {1});
  WaitFor("m", 1, ServableStage::kAvailable);
  manager_->Stop();
  absl::MutexLock lock(&mutex_);
  std::vector<ServableStage> stages;
  for (const ServableState& state : history_) stages.push_back(state.stage);
  EXPECT_THAT(stages, ElementsAre(ServableStage::kLoading, ServableStage::kAvailable,
                                  ServableStage::kUnloading, ServableStage::kEnd));
}

// Versions come and go while many threads ask: each always finds one.
TEST_F(ManagerTest, FindNeverFailsDuringUpgrades) {
  Make();
  Aspire("m", {1});
  WaitFor("m", 1, ServableStage::kAvailable);
  std::atomic<bool> stop{false};
  std::atomic<int> misses{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      while (!stop) misses += manager_->Find({"m", std::nullopt, ""}).ok() ? 0 : 1;
    });
  }
  for (std::int64_t version = 2; version < 200; ++version) {
    Aspire("m", {version});
    WaitFor("m", version, ServableStage::kAvailable);
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(misses, 0);
}

}  // namespace
}  // namespace tfipu::serving
