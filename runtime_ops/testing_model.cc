#include "runtime_ops/testing_model.h"

#include <stdlib.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/substitute.h"
#include "tensorflow/core/framework/node_def_util.h"

namespace tfipu {
namespace {

void OrDie(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::abort();
}

void SetDims(TensorSpec& spec, std::initializer_list<int> dims) {
  spec.clear_dims();
  for (int dim : dims) spec.add_dims(dim);
}

}  // namespace

TestingProgram DoublingProgram(int width, int rows, bool row_batching) {
  TestingProgram program = TestingProgram::OneStage(absl::Substitute(R"(HloModule doubling
ENTRY main {
  x = f32[$0,$1] parameter(0)
  ROOT y = f32[$0,$1] add(x, x)
})",
                                                                     rows, width));
  SetDims(*program.header.mutable_infeeds(0), {rows, width});
  program.header.set_dynamic_batch(row_batching);
  return program;
}

TestingProgram MlpProgram(int rows, bool row_batching) {
  TestingProgram program = TestingProgram::OneStage(absl::Substitute(R"(HloModule mlp
ENTRY main {
  x = f32[$0,784] parameter(0)
  w1 = f32[784,512] parameter(1)
  w2 = f32[512,512] parameter(2)
  w3 = f32[512,10] parameter(3)
  zero = f32[] constant(0)
  zeros = f32[$0,512] broadcast(zero), dimensions={}
  d1 = f32[$0,512] dot(x, w1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  r1 = f32[$0,512] maximum(d1, zeros)
  d2 = f32[$0,512] dot(r1, w2), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  r2 = f32[$0,512] maximum(d2, zeros)
  ROOT y = f32[$0,10] dot(r2, w3), lhs_contracting_dims={1}, rhs_contracting_dims={0}
})",
                                                                     rows));
  SetDims(*program.header.mutable_infeeds(0), {rows, 784});
  program.header.set_dynamic_batch(row_batching);
  int index = 0;
  for (auto [in, out] : {std::pair(784, 512), std::pair(512, 512), std::pair(512, 10)}) {
    TensorSpec& spec = *program.header.add_startup_inputs();
    spec.set_name(absl::StrCat("XLA_Args/w", index + 1));
    spec.set_type(FLOAT32);
    SetDims(spec, {in, out});
    ValueRef& argument = *program.header.mutable_stages(0)->add_arguments();
    argument.set_source(ValueRef::STARTUP_INPUT);
    argument.set_index(index++);
  }
  return program;
}

std::vector<tensorflow::Tensor> MlpWeights() {
  std::vector<tensorflow::Tensor> weights;
  for (auto [in, out] : {std::pair(784, 512), std::pair(512, 512), std::pair(512, 10)}) {
    tensorflow::Tensor weight(tensorflow::DT_FLOAT, {in, out});
    auto values = weight.flat<float>();
    for (int i = 0; i < values.size(); ++i) values(i) = static_cast<float>((i * 37) % 101 - 50) / 1000;
    weights.push_back(std::move(weight));
  }
  return weights;
}

ExecutableFile::ExecutableFile(const TestingProgram& program)
    : folder_((std::filesystem::temp_directory_path() / "testing_model.XXXXXX").string()) {
  if (mkdtemp(folder_.data()) == nullptr) OrDie(absl::InternalError(absl::StrCat("cannot make ", folder_)));
  path_ = folder_ + "/program.ipu";
  OrDie(Compile(program.header, program.hlo, path_));
}

ExecutableFile::~ExecutableFile() { std::filesystem::remove_all(folder_); }

tensorflow::NodeDef Node(const std::string& name, const std::string& op, std::vector<std::string> inputs) {
  tensorflow::NodeDef node;
  node.set_name(name);
  node.set_op(op);
  for (std::string& input : inputs) *node.add_input() = std::move(input);
  return node;
}

tensorflow::NodeDef Constant(const std::string& name, const tensorflow::Tensor& value) {
  tensorflow::NodeDef node = Node(name, "Const", {});
  tensorflow::AddNodeAttr("dtype", value.dtype(), &node);
  tensorflow::AddNodeAttr("value", value, &node);
  return node;
}

tensorflow::NodeDef Placeholder(const std::string& name, tensorflow::DataType type) {
  tensorflow::NodeDef node = Node(name, "Placeholder", {});
  tensorflow::AddNodeAttr("dtype", type, &node);
  return node;
}

tensorflow::GraphDef CallGraph(const std::string& path, const std::string& engine,
                               const std::vector<tensorflow::Tensor>& startup_inputs) {
  tensorflow::GraphDef graph;
  graph.mutable_versions()->set_producer(1882);
  *graph.add_node() = Placeholder("x", tensorflow::DT_FLOAT);
  *graph.add_node() = Constant("filename", tensorflow::Tensor(path));
  std::vector<std::string> inputs;
  std::vector<tensorflow::DataType> types;
  for (const tensorflow::Tensor& input : startup_inputs) {
    inputs.push_back(absl::StrCat("startup_", inputs.size()));
    types.push_back(input.dtype());
    *graph.add_node() = Constant(inputs.back(), input);
  }
  inputs.push_back("filename");
  tensorflow::NodeDef runtime = Node("runtime", "ApplicationRuntime", inputs);
  tensorflow::AddNodeAttr("input_types", types, &runtime);
  tensorflow::AddNodeAttr("engine_name", engine, &runtime);
  *graph.add_node() = runtime;
  tensorflow::NodeDef call = Node("call", "ApplicationCall", {"x", "runtime"});
  const std::vector<tensorflow::DataType> one_float{tensorflow::DT_FLOAT};
  tensorflow::AddNodeAttr("infeed_types", one_float, &call);
  tensorflow::AddNodeAttr("outfeed_types", one_float, &call);
  tensorflow::AddNodeAttr("engine_name", engine, &call);
  *graph.add_node() = call;
  return graph;
}

TestingSession::TestingSession(const tensorflow::GraphDef& graph, bool in_line, const std::string& fetch,
                               const std::string& model_name, int timeout_ms) {
  tensorflow::SessionOptions options;
  options.config.mutable_graph_options()->mutable_rewrite_options()->set_disable_meta_optimizer(true);
  if (!model_name.empty()) {
    options.config.mutable_experimental()->mutable_session_metadata()->set_name(model_name);
    options.config.mutable_experimental()->mutable_session_metadata()->set_version(1);
  }
  session_.reset(tensorflow::NewSession(options));
  OrDie(session_->Create(graph));
  tensorflow::CallableOptions callable;
  callable.add_feed("x");
  callable.add_fetch(fetch);
  if (in_line) callable.mutable_run_options()->set_inter_op_thread_pool(-1);
  callable.mutable_run_options()->set_timeout_in_ms(timeout_ms);
  OrDie(session_->MakeCallable(callable, &callable_));
}

TestingSession::~TestingSession() {
  OrDie(session_->ReleaseCallable(callable_));
  OrDie(session_->Close());
}

absl::StatusOr<tensorflow::Tensor> TestingSession::Run(const tensorflow::Tensor& x) {
  std::vector<tensorflow::Tensor> results;
  absl::Status status = session_->RunCallable(callable_, {x}, &results, nullptr);
  if (!status.ok()) return status;
  return std::move(results[0]);
}

tensorflow::Tensor Filled(const tensorflow::TensorShape& shape, float value) {
  tensorflow::Tensor tensor(tensorflow::DT_FLOAT, shape);
  tensor.flat<float>().setConstant(value);
  return tensor;
}

}  // namespace tfipu
