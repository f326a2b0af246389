#include "serving/sources/config_source.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "serving/core/text_proto.h"
#include "serving/servables/servable.h"

namespace tfipu::serving {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class EmptyServable : public Servable {
 public:
  explicit EmptyServable(ServableId id) : id_(std::move(id)) {}
  const ServableId& id() const override { return id_; }
  const std::map<std::string, Signature, std::less<>>& signatures() const override { return signatures_; }
  void Start(ServableCall, CallDone done) const override { done(absl::OkStatus()); }

 private:
  const ServableId id_;
  const std::map<std::string, Signature, std::less<>> signatures_;
};

// A version whose folder holds a file "broken" does not load.
class FolderLoader : public Loader {
 public:
  explicit FolderLoader(VersionSource source) : source_(std::move(source)) {}
  absl::StatusOr<std::unique_ptr<const Servable>> Load() override {
    if (fs::exists(fs::path(source_.path) / "broken")) return absl::InvalidArgumentError("broken");
    return std::make_unique<const EmptyServable>(source_.id);
  }

 private:
  const VersionSource source_;
};

class ConfigSourceTest : public ::testing::Test {
 protected:
  ConfigSourceTest()
      : manager_({}, [](const VersionSource& source) { return std::make_unique<FolderLoader>(source); }) {
    root_ = fs::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  ~ConfigSourceTest() override { fs::remove_all(root_); }

  void AddVersion(const std::string& model, int version, bool broken = false) {
    const fs::path folder = root_ / model / std::to_string(version);
    fs::create_directories(folder);
    if (broken) std::ofstream(folder / "broken") << "1";
  }
  // `rest`: further fields of the model.
  std::string Text(const std::string& model, const std::string& rest = "") {
    return "config { name: \"" + model + "\" base_path: \"" + (root_ / model).string() + "\" " + rest + " } ";
  }
  static tensorflow::serving::ModelServerConfig Config(const std::string& models) {
    tensorflow::serving::ModelServerConfig config;
    EXPECT_TRUE(ParseTextProto("model_config_list { " + models + "}", "test", &config).ok());
    return config;
  }
  std::int64_t Found(const ModelSpec& spec) {
    const auto found = manager_.Find(spec);
    return found.ok() ? (*found)->id().version : -1;
  }

  fs::path root_;
  Manager manager_;
};

TEST_F(ConfigSourceTest, ReloadAddsChangesAndRemovesModelsAndReturnsWhenTheyAreServed) {
  AddVersion("a", 1);
  AddVersion("b", 1);
  AddVersion("b", 2);
  ConfigSource source({}, &manager_);
  ASSERT_TRUE(source.Start(Config(Text("a"))).ok());
  ASSERT_TRUE(source.Reload(Config(Text("a") + Text("b"))).ok());
  EXPECT_EQ(Found({"a", std::nullopt, ""}), 1);
  EXPECT_EQ(Found({"b", std::nullopt, ""}), 2);
  ASSERT_TRUE(source.Reload(Config(Text("b", "model_version_policy { specific { versions: 1 } }"))).ok());
  EXPECT_EQ(Found({"a", std::nullopt, ""}), -1);
  EXPECT_EQ(Found({"b", std::nullopt, ""}), 1);
}

TEST_F(ConfigSourceTest, AnInvalidConfigChangesNothing) {
  AddVersion("a", 1);
  ConfigSource source({}, &manager_);
  ASSERT_TRUE(source.Start(Config(Text("a"))).ok());
  ASSERT_TRUE(manager_.WaitUntilSettled({"a"}, absl::InfiniteFuture()));
  EXPECT_TRUE(absl::IsInvalidArgument(source.Reload(Config(Text("b") + "config { name: \"c\" }"))));
  EXPECT_EQ(Found({"a", std::nullopt, ""}), 1);
}

TEST_F(ConfigSourceTest, AReloadSaysWhichNewModelsAreNotServed) {
  AddVersion("a", 1);
  AddVersion("broken", 1, /*broken=*/true);
  ConfigSource source({}, &manager_);
  ASSERT_TRUE(source.Start(Config(Text("a"))).ok());
  const absl::Status status = source.Reload(Config(Text("a") + Text("broken") + Text("empty")));
  EXPECT_TRUE(absl::IsUnknown(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("broken (version 1: broken), empty (no version was found)"));
  EXPECT_EQ(Found({"a", std::nullopt, ""}), 1);
  // The config is in effect: only what is new is asked of the next one.
  AddVersion("b", 1);
  EXPECT_TRUE(source.Reload(Config(Text("a") + Text("broken") + Text("b"))).ok());
  EXPECT_EQ(Found({"b", std::nullopt, ""}), 1);
}

TEST_F(ConfigSourceTest, LabelsOfTheFirstConfigMayNameVersionsThatComeLater) {
  ConfigSourceOptions options;
  options.poll_interval = absl::Milliseconds(1);
  ConfigSource source(options, &manager_);
  ASSERT_TRUE(source.Start(Config(Text("a", "version_labels { key: \"stable\" value: 1 }"))).ok());
  EXPECT_EQ(Found({"a", std::nullopt, "stable"}), -1);
  AddVersion("a", 1);
  while (Found({"a", std::nullopt, "stable"}) != 1) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(ConfigSourceTest, AReloadMovesLabelsInOneStep) {
  AddVersion("a", 1);
  AddVersion("a", 2);
  const auto at = [&](const std::string& version) {
    return Config(Text("a", "model_version_policy { specific { versions: " + version +
                                " } } version_labels { key: \"stable\" value: " + version + " }"));
  };
  ConfigSource source({}, &manager_);
  ASSERT_TRUE(source.Start(at("1")).ok());
  ASSERT_TRUE(source.Reload(at("2")).ok());
  EXPECT_EQ(Found({"a", std::nullopt, "stable"}), 2);
}

TEST_F(ConfigSourceTest, AReloadMovesNoLabelToAVersionThatIsNotAvailable) {
  AddVersion("a", 1);
  AddVersion("a", 2, /*broken=*/true);
  const std::string all = "model_version_policy { all {} } ";
  ConfigSource source({}, &manager_);
  ASSERT_TRUE(source.Start(Config(Text("a", all + "version_labels { key: \"stable\" value: 1 }"))).ok());
  const absl::Status status =
      source.Reload(Config(Text("a", all + "version_labels { key: \"stable\" value: 2 }")));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("version 2 of model a"));
  EXPECT_EQ(Found({"a", std::nullopt, "stable"}), 1);
}

TEST_F(ConfigSourceTest, NewLabelsForUnavailableVersionsNeedTheOption) {
  AddVersion("a", 1);
  const auto config = Config(Text("a", "version_labels { key: \"next\" value: 2 }"));
  {
    ConfigSource source({}, &manager_);
    ASSERT_TRUE(source.Start(Config(Text("a"))).ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(source.Reload(config)));
  }
  ConfigSourceOptions options;
  options.labels_for_unavailable_versions = true;
  ConfigSource source(options, &manager_);
  ASSERT_TRUE(source.Start(Config(Text("a"))).ok());
  EXPECT_TRUE(source.Reload(config).ok());
}

TEST_F(ConfigSourceTest, FollowsAFileAndKeepsWhatIsServedWhenItIsBroken) {
  AddVersion("a", 1);
  AddVersion("b", 1);
  const std::string path = (root_ / "models.config").string();
  const auto write = [&](const std::string& text) {
    std::ofstream(path + ".new") << text;
    fs::rename(path + ".new", path);
  };
  write("model_config_list { " + Text("a") + "}");
  ConfigSource source({}, &manager_);
  ASSERT_TRUE(source.StartFromFile(path, absl::Milliseconds(1)).ok());
  write("model_config_list { " + Text("a") + Text("b") + "}");
  while (Found({"b", std::nullopt, ""}) != 1) absl::SleepFor(absl::Milliseconds(1));
  write("this is no config");
  write("model_config_list { " + Text("b") + "}");
  while (Found({"a", std::nullopt, ""}) != -1) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(Found({"b", std::nullopt, ""}), 1);
}

TEST_F(ConfigSourceTest, AConfigThatListsNoModelIsRefused) {
  AddVersion("a", 1);
  ConfigSource source({}, &manager_);
  ASSERT_TRUE(source.Start(Config(Text("a"))).ok());
  ASSERT_TRUE(manager_.WaitUntilSettled({"a"}, absl::InfiniteFuture()));
  for (const auto& config : {tensorflow::serving::ModelServerConfig(), Config(""),
                             Config(Text("a", "model_version_policy { specific {} }"))}) {
    EXPECT_TRUE(absl::IsInvalidArgument(source.Reload(config)));
    EXPECT_EQ(Found({"a", std::nullopt, ""}), 1);
  }
}

TEST_F(ConfigSourceTest, AFileThatIsCutOrEmptyChangesNothing) {
  AddVersion("a", 1);
  AddVersion("b", 1);
  const std::string path = (root_ / "models.config").string();
  const std::string whole = "model_config_list { " + Text("a") + "}";
  std::ofstream(path) << whole;
  ConfigSource source({}, &manager_);
  ASSERT_TRUE(source.StartFromFile(path, absl::Milliseconds(1)).ok());
  ASSERT_TRUE(manager_.WaitUntilSettled({"a"}, absl::InfiniteFuture()));
  const auto write = [&](const std::string& text) {
    std::ofstream(path + ".new") << text;
    fs::rename(path + ".new", path);
  };
  const auto demand_model_a = [&] {
    // Long enough for some looks. A look that comes later finds the next text, which is no worse.
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(Found({"a", std::nullopt, ""}), 1);
      absl::SleepFor(absl::Milliseconds(1));
    }
  };
  for (const std::string& text : {std::string(), std::string("# models"), whole.substr(0, whole.size() / 2),
                                  std::string("model_config_list {}")}) {
    write(text);
    demand_model_a();
  }
  fs::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  demand_model_a();
  fs::remove(path);
  write("model_config_list { " + Text("b") + "}");
  while (Found({"b", std::nullopt, ""}) != 1) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(ConfigSourceTest, ALabelInAFileIsAppliedWhenItsVersionComes) {
  AddVersion("a", 1);
  const std::string path = (root_ / "models.config").string();
  const auto write = [&](const std::string& labels) {
    std::ofstream(path + ".new") << "model_config_list { " +
                                        Text("a", "model_version_policy { all {} }" + labels) + "}";
    fs::rename(path + ".new", path);
  };
  const auto label = [](const std::string& name, int version) {
    return "version_labels { key: \"" + name + "\" value: " + std::to_string(version) + " }";
  };
  write(label("stable", 1));
  ConfigSourceOptions options;
  options.poll_interval = absl::Milliseconds(1);
  ConfigSource source(options, &manager_);
  ASSERT_TRUE(source.StartFromFile(path, absl::Milliseconds(1)).ok());
  write(label("stable", 1) + label("canary", 2));
  absl::SleepFor(absl::Milliseconds(5));
  AddVersion("a", 2);
  while (Found({"a", std::nullopt, "canary"}) != 2) absl::SleepFor(absl::Milliseconds(1));
  write(label("stable", 3) + label("canary", 2));
  absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(Found({"a", std::nullopt, "stable"}), 1);
  AddVersion("a", 3);
  while (Found({"a", std::nullopt, "stable"}) != 3) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(ConfigSourceTest, AReloadTakesThePlaceOfAFileThatIsNotInEffect) {
  AddVersion("a", 1);
  AddVersion("b", 1);
  const std::string path = (root_ / "models.config").string();
  std::ofstream(path) << "model_config_list { " + Text("a") + "}";
  ConfigSource source({}, &manager_);
  ASSERT_TRUE(source.StartFromFile(path, absl::Milliseconds(1)).ok());
  std::ofstream(path + ".new") << "model_config_list { " +
                                      Text("a", "version_labels { key: \"x\" value: 9 }") + "}";
  fs::rename(path + ".new", path);
  absl::SleepFor(absl::Milliseconds(10));
  ASSERT_TRUE(source.Reload(Config(Text("b"))).ok());
  absl::SleepFor(absl::Milliseconds(10));
  EXPECT_EQ(Found({"b", std::nullopt, ""}), 1);
}

TEST_F(ConfigSourceTest, AListThatIsEmptyAtTheStartWaitsForAReload) {
  AddVersion("a", 1);
  const std::string path = (root_ / "models.config").string();
  std::ofstream(path) << "model_config_list {}";
  ConfigSource source({}, &manager_);
  ASSERT_TRUE(source.StartFromFile(path, absl::ZeroDuration()).ok());
  ASSERT_TRUE(source.Reload(Config(Text("a"))).ok());
  EXPECT_EQ(Found({"a", std::nullopt, ""}), 1);
}

TEST_F(ConfigSourceTest, AFirstFileThatIsMissingOrWrongIsAnError) {
  ConfigSource source({}, &manager_);
  EXPECT_TRUE(absl::IsNotFound(source.StartFromFile((root_ / "none").string(), absl::ZeroDuration())));
  std::ofstream(root_ / "bad") << "nonsense {";
  EXPECT_TRUE(absl::IsInvalidArgument(source.StartFromFile((root_ / "bad").string(), absl::ZeroDuration())));
  std::ofstream(root_ / "comment") << "# no model";
  EXPECT_TRUE(
      absl::IsInvalidArgument(source.StartFromFile((root_ / "comment").string(), absl::ZeroDuration())));
  ASSERT_EQ(mkfifo((root_ / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(
      absl::IsFailedPrecondition(source.StartFromFile((root_ / "pipe").string(), absl::ZeroDuration())));
}

}  // namespace
}  // namespace tfipu::serving
