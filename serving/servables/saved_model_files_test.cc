#include "serving/servables/saved_model_files.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "cc/executable/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "serving/core/loader.h"
#include "tensorflow/core/framework/node_def_util.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/lib/io/record_writer.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/util/tensor_bundle/tensor_bundle.h"

namespace tfipu::serving {
namespace {

namespace fs = std::filesystem;
using tensorflow::MetaGraphDef;
using tensorflow::Tensor;
using ::testing::HasSubstr;

class SavedModelFilesTest : public ::testing::Test {
 protected:
  SavedModelFilesTest() {
    root_ = fs::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_ / "variables");
    fs::create_directories(root_ / "assets");
    fs::create_directories(root_ / "assets.extra");
  }
  ~SavedModelFilesTest() override { fs::remove_all(root_); }

  // A graph that restores tensors of these names.
  static MetaGraphDef Restoring(const std::vector<std::string>& names) {
    MetaGraphDef graph;
    graph.mutable_saver_def()->set_restore_op_name("restore");
    Tensor values(tensorflow::DT_STRING, {static_cast<std::int64_t>(names.size())});
    for (std::size_t i = 0; i < names.size(); ++i) values.flat<tensorflow::tstring>()(i) = names[i];
    auto* const constant = graph.mutable_graph_def()->add_node();
    constant->set_name("names");
    constant->set_op("Const");
    values.AsProtoTensorContent((*constant->mutable_attr())["value"].mutable_tensor());
    auto* const restore = graph.mutable_graph_def()->add_node();
    restore->set_name("restore");
    restore->set_op("RestoreV2");
    for (const char* const input : {"prefix", "names:0", "slices"}) restore->add_input(input);
    return graph;
  }
  static void AddAsset(MetaGraphDef* graph, const std::string& name) {
    graph->add_asset_file_def()->set_filename(name);
  }

  void WriteVariables(int floats) {
    tensorflow::BundleWriter writer(tensorflow::Env::Default(), (root_ / "variables" / "variables").string());
    ASSERT_TRUE(writer.Add("a", Tensor(1.0f)).ok());
    ASSERT_TRUE(writer.Add("b", Tensor(tensorflow::DT_FLOAT, {floats})).ok());
    ASSERT_TRUE(writer.Finish().ok());
  }
  fs::path Shard() const { return root_ / "variables" / "variables.data-00000-of-00001"; }

  absl::Status Check(const MetaGraphDef& graph) { return CheckFilesOf(graph, root_.string()); }
  void ExpectMissing(const absl::Status& status, const std::string& what) {
    EXPECT_TRUE(IsNotWhole(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("waits for "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  }

  fs::path root_;
};

TEST_F(SavedModelFilesTest, TheGraphComesInOneOfThreeFiles) {
  ExpectMissing(CheckGraphFile(root_.string()), "saved_model.pb");
  std::ofstream(root_ / "saved_model.pb").close();
  ExpectMissing(CheckGraphFile(root_.string()), "saved_model.pb (has 0 of 1 bytes)");
  for (const char* const name : {"saved_model.pb", "saved_model.pbtxt", "saved_model.cpb"}) {
    fs::remove(root_ / "saved_model.pb");
    std::ofstream(root_ / name) << "graph";
    EXPECT_TRUE(CheckGraphFile(root_.string()).ok());
    fs::remove(root_ / name);
    ASSERT_EQ(mkfifo((root_ / name).c_str(), 0600), 0);
    const absl::Status status = CheckGraphFile(root_.string());
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("is a FIFO"));
    fs::remove(root_ / name);
  }
}

TEST_F(SavedModelFilesTest, VariablesAreThereWithAllTheirBytes) {
  const MetaGraphDef graph = Restoring({"a", "b"});
  ExpectMissing(Check(graph), "variables/variables.index");
  WriteVariables(100);
  EXPECT_TRUE(Check(graph).ok());
  fs::resize_file(Shard(), 10);
  ExpectMissing(Check(graph), "variables/variables.data-00000-of-00001 (has 10 of 404 bytes)");
  fs::remove(Shard());
  ExpectMissing(Check(graph), "variables/variables.data-00000-of-00001");
  ASSERT_EQ(mkfifo(Shard().c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(Check(graph)));
  fs::remove(Shard());
  const fs::path index = root_ / "variables" / "variables.index";
  for (std::uintmax_t size = fs::file_size(index); size > 0;) {
    fs::resize_file(index, --size);
    ExpectMissing(Check(graph), "variables/variables.index");
  }
}

TEST_F(SavedModelFilesTest, AModelWithoutVariablesNeedsNone) {
  EXPECT_FALSE(RestoresVariables(MetaGraphDef()));
  EXPECT_FALSE(RestoresVariables(Restoring({"_CHECKPOINTABLE_OBJECT_GRAPH"})));
  EXPECT_TRUE(RestoresVariables(Restoring({"_CHECKPOINTABLE_OBJECT_GRAPH", "w"})));
  EXPECT_TRUE(Check(Restoring({"_CHECKPOINTABLE_OBJECT_GRAPH"})).ok());
  // In a function, as TensorFlow 2 saves it.
  MetaGraphDef graph = Restoring({"w"});
  auto* const function = graph.mutable_graph_def()->mutable_library()->add_function();
  for (auto& node : *graph.mutable_graph_def()->mutable_node()) *function->add_node_def() = node;
  function->mutable_node_def(1)->set_input(1, "names:output:0");
  graph.mutable_graph_def()->clear_node();
  EXPECT_TRUE(RestoresVariables(graph));
}

TEST_F(SavedModelFilesTest, AssetsAreThere) {
  MetaGraphDef graph;
  AddAsset(&graph, "words.txt");
  ExpectMissing(Check(graph), "assets/words.txt");
  std::ofstream(root_ / "assets" / "words.txt").close();
  EXPECT_TRUE(Check(graph).ok());
  fs::remove(root_ / "assets" / "words.txt");
  fs::create_directory(root_ / "assets" / "words.txt");
  const absl::Status status = Check(graph);
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("is a directory"));
}

TEST_F(SavedModelFilesTest, AnExecutableHasAsManyBytesAsItsHeaderSays) {
  MetaGraphDef graph;
  graph.mutable_graph_def()->add_node()->set_op("ApplicationRuntime");
  AddAsset(&graph, "executable.ipu");
  ExecutableHeader header;
  header.set_file_size(1000);
  const std::string text = header.SerializeAsString();
  std::string file = MakePreamble(text) + text;
  file.resize(1000);
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{3}, kPreambleSize - 1, kPreambleSize, std::size_t{999}}) {
    std::ofstream(root_ / "assets" / "executable.ipu") << file.substr(0, size);
    ExpectMissing(Check(graph), "assets/executable.ipu (has " + std::to_string(size));
  }
  std::ofstream(root_ / "assets" / "executable.ipu") << file;
  EXPECT_TRUE(Check(graph).ok());
  // What is none is for the engine to refuse.
  std::ofstream(root_ / "assets" / "executable.ipu") << "something else";
  EXPECT_TRUE(Check(graph).ok());
}

TEST_F(SavedModelFilesTest, TheWarmUpFileEndsWithARecord) {
  const fs::path path = root_ / "assets.extra" / "tf_serving_warmup_requests";
  {
    std::unique_ptr<tensorflow::WritableFile> file;
    ASSERT_TRUE(tensorflow::Env::Default()->NewWritableFile(path.string(), &file).ok());
    tensorflow::io::RecordWriter writer(file.get());
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(writer.WriteRecord("0123456789").ok());
    ASSERT_TRUE(writer.Close().ok());
  }
  EXPECT_TRUE(Check({}).ok());
  const std::uintmax_t record = fs::file_size(path) / 2;
  for (std::uintmax_t size = 2 * record; size > 0;) {
    fs::resize_file(path, --size);
    if (size % record == 0) {
      EXPECT_TRUE(Check({}).ok());
    } else {
      ExpectMissing(Check({}), "assets.extra/tf_serving_warmup_requests (has " + std::to_string(size));
    }
  }
  // What is no record is for the warm-up to say.
  std::ofstream(path) << "no records at all";
  EXPECT_TRUE(Check({}).ok());
  fs::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(Check({})));
}

TEST_F(SavedModelFilesTest, NothingThatIsReadIsAPipe) {
  for (const char* const name : {"batching_params.pbtxt", "fingerprint.pb"}) {
    ASSERT_EQ(mkfifo((root_ / name).c_str(), 0600), 0);
    EXPECT_TRUE(absl::IsFailedPrecondition(Check({}))) << name;
    fs::remove(root_ / name);
  }
}

}  // namespace
}  // namespace tfipu::serving
