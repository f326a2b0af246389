#include "serving/sources/file_system_source.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu::serving {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FileSystemSourceTest : public ::testing::Test {
 protected:
  FileSystemSourceTest() {
    root_ = fs::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  ~FileSystemSourceTest() override { fs::remove_all(root_); }

  FileSystemSource::Sink Sink() {
    return [this](absl::string_view model, std::vector<VersionSource> versions,
                  std::vector<VersionSource> spares) {
      absl::MutexLock lock(&mutex_);
      told_[std::string(model)] = std::move(versions);
      spares_[std::string(model)] = std::move(spares);
    };
  }
  std::vector<std::int64_t> Told(const std::string& model) {
    absl::MutexLock lock(&mutex_);
    std::vector<std::int64_t> numbers;
    for (const VersionSource& version : told_[model]) numbers.push_back(version.id.version);
    return numbers;
  }
  void AddVersion(const std::string& model, const std::string& folder) {
    fs::create_directories(root_ / model / folder);
  }
  WatchedModel Model(const std::string& name, VersionPolicy policy = {}) {
    return {name, (root_ / name).string(), std::move(policy)};
  }

  fs::path root_;
  absl::Mutex mutex_;
  std::map<std::string, std::vector<VersionSource>> told_, spares_;
};

VersionPolicy All() {
  VersionPolicy policy;
  policy.kind = VersionPolicy::Kind::kAll;
  return policy;
}

TEST_F(FileSystemSourceTest, TakesFoldersNamedByNumbersOnly) {
  for (const char* const folder :
       {"1", "007", "12", "abc", "3x", "-4", "tmp", "1.5", "99999999999999999999"}) {
    AddVersion("m", folder);
  }
  std::ofstream(root_ / "m" / "5") << "a file";
  FileSystemSource source(absl::ZeroDuration(), Sink());
  source.Watch({Model("m", All())});
  EXPECT_THAT(Told("m"), ElementsAre(12, 7, 1));
  EXPECT_EQ(told_["m"][1].path, (root_ / "m" / "007").string());
}

TEST_F(FileSystemSourceTest, FollowsAddedAndRemovedVersions) {
  AddVersion("m", "1");
  FileSystemSource source(absl::ZeroDuration(), Sink());
  source.Watch({Model("m")});
  EXPECT_THAT(Told("m"), ElementsAre(1));
  AddVersion("m", "2");
  EXPECT_THAT(Told("m"), ElementsAre(1));
  source.Poll();
  EXPECT_THAT(Told("m"), ElementsAre(2));
  fs::remove_all(root_ / "m" / "2");
  source.Poll();
  EXPECT_THAT(Told("m"), ElementsAre(1));
}

TEST_F(FileSystemSourceTest, PollsByItself) {
  AddVersion("m", "1");
  FileSystemSource source(absl::Milliseconds(1), Sink());
  source.Watch({Model("m")});
  AddVersion("m", "2");
  while (Told("m") != std::vector<std::int64_t>{2}) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(FileSystemSourceTest, AnEmptyFolderCountsTheSecondTimeAndAMissingOneNever) {
  AddVersion("m", "1");
  FileSystemSource source(absl::ZeroDuration(), Sink());
  source.Watch({Model("m")});
  fs::remove_all(root_ / "m");
  for (int i = 0; i < 3; ++i) source.Poll();
  EXPECT_THAT(Told("m"), ElementsAre(1));
  fs::create_directories(root_ / "m");
  source.Poll();
  EXPECT_THAT(Told("m"), ElementsAre(1));
  source.Poll();
  EXPECT_THAT(Told("m"), IsEmpty());
}

TEST_F(FileSystemSourceTest, WatchReplacesModels) {
  AddVersion("a", "1");
  AddVersion("b", "1");
  AddVersion("elsewhere", "5");
  FileSystemSource source(absl::ZeroDuration(), Sink());
  source.Watch({Model("a"), Model("b")});
  WatchedModel moved = Model("b");
  moved.base_path = (root_ / "elsewhere").string();
  source.Watch({moved});
  EXPECT_THAT(Told("a"), IsEmpty());
  EXPECT_THAT(Told("b"), ElementsAre(5));
}

TEST_F(FileSystemSourceTest, OfTwoFoldersOfOneNumberTheShortestNameCounts) {
  for (const char* const folder : {"001", "1", "01", "02", "002"}) AddVersion("m", folder);
  FileSystemSource source(absl::ZeroDuration(), Sink());
  source.Watch({Model("m", All())});
  ASSERT_THAT(Told("m"), ElementsAre(2, 1));
  EXPECT_EQ(told_["m"][0].path, (root_ / "m" / "02").string());
  EXPECT_EQ(told_["m"][1].path, (root_ / "m" / "1").string());
}

TEST_F(FileSystemSourceTest, TheVersionsBeforeTheLatestAreSpares) {
  for (const char* const folder : {"1", "2", "3", "4"}) AddVersion("m", folder);
  FileSystemSource source(absl::ZeroDuration(), Sink());
  source.Watch({Model("m")});
  EXPECT_THAT(Told("m"), ElementsAre(4));
  ASSERT_EQ(spares_["m"].size(), FileSystemSource::kSpares);
  EXPECT_EQ(spares_["m"][0].id.version, 3);
  EXPECT_EQ(spares_["m"][1].id.version, 2);
  // Who names versions wants no other.
  VersionPolicy specific;
  specific.kind = VersionPolicy::Kind::kSpecific;
  specific.versions = {4};
  source.Watch({Model("m", specific)});
  EXPECT_THAT(spares_["m"], IsEmpty());
}

TEST_F(FileSystemSourceTest, ContentsAreToldWhenTheyStayTheSame) {
  AddVersion("m", "1/assets");
  const fs::path vocabulary = root_ / "m" / "1" / "assets" / "vocabulary";
  std::ofstream(vocabulary) << "a";
  FileSystemSource source(absl::ZeroDuration(), Sink());
  source.Watch({Model("m")});
  const std::string before = told_["m"][0].contents;
  for (const char* const text : {"a b", "a b c", "a b c d"}) {
    std::ofstream(vocabulary) << text;
    source.Poll();
    EXPECT_EQ(told_["m"][0].contents, before);
  }
  source.Poll();
  const std::string after = told_["m"][0].contents;
  EXPECT_NE(after, before);
  // Other files say themselves whether they are whole.
  std::ofstream(root_ / "m" / "1" / "saved_model.pb") << "graph";
  std::ofstream(root_ / "m" / "1" / "assets" / ".vocabulary.rsync") << "a";
  source.Poll();
  source.Poll();
  EXPECT_EQ(told_["m"][0].contents, after);
}

TEST_F(FileSystemSourceTest, AFileThatReplacesAnotherOfTheSameTimeAndSizeChangesTheStamp) {
  AddVersion("m", "1");
  const fs::path file = root_ / "m" / "1" / "saved_model.pb", other = root_ / "other";
  std::ofstream(file) << "abc";
  std::ofstream(other) << "xyz";
  fs::last_write_time(other, fs::last_write_time(file));
  FileSystemSource source(absl::ZeroDuration(), Sink());
  source.Watch({Model("m")});
  const std::string before = told_["m"][0].stamp;
  fs::rename(other, file);
  source.Poll();
  EXPECT_NE(told_["m"][0].stamp, before);
}

TEST_F(FileSystemSourceTest, StampsChangeWithTheFiles) {
  AddVersion("m", "1/assets");
  FileSystemSource source(absl::ZeroDuration(), Sink());
  source.Watch({Model("m")});
  const std::string before = told_["m"][0].stamp;
  source.Poll();
  EXPECT_EQ(told_["m"][0].stamp, before);
  std::ofstream(root_ / "m" / "1" / "assets" / "executable") << "more";
  source.Poll();
  EXPECT_NE(told_["m"][0].stamp, before);
}

}  // namespace
}  // namespace tfipu::serving
