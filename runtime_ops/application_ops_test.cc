#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "cc/engine/caller_context.h"
#include "cc/engine/engine_manager.h"
#include "runtime_ops/testing_model.h"
#include "tensorflow/core/framework/function.pb.h"
#include "tensorflow/core/framework/node_def_util.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfipu {
namespace {

using tensorflow::Tensor;
using tensorflow::TensorShape;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<float> Values(const Tensor& tensor) {
  const auto flat = tensor.flat<float>();
  return {flat.data(), flat.data() + flat.size()};
}

// Runs until the test lets it end, and counts how many run.
struct SlowStep {
  std::mutex mutex;
  std::condition_variable changed;
  int running = 0;
  bool open = false;

  void Pass() {
    std::unique_lock<std::mutex> lock(mutex);
    ++running;
    changed.notify_all();
    changed.wait(lock, [this] { return open; });
  }
  void AwaitRunning(int count) {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return running >= count; });
  }
  void Open() {
    std::lock_guard<std::mutex> lock(mutex);
    open = true;
    changed.notify_all();
  }
};
SlowStep* slow_step = nullptr;

REGISTER_OP("TestSlowPostprocessing").Input("x: float").Output("y: float").SetIsStateful();

class SlowPostprocessing : public tensorflow::OpKernel {
 public:
  using tensorflow::OpKernel::OpKernel;
  void Compute(tensorflow::OpKernelContext* context) override {
    slow_step->Pass();
    context->set_output(0, context->input(0));
  }
};
REGISTER_KERNEL_BUILDER(Name("TestSlowPostprocessing").Device(tensorflow::DEVICE_CPU), SlowPostprocessing);

class ApplicationOpsTest : public ::testing::TestWithParam<bool> {
 protected:
  bool in_line() const { return GetParam(); }
};

TEST_P(ApplicationOpsTest, RunsTheExecutable) {
  const ExecutableFile file(DoublingProgram(4));
  TestingSession session(CallGraph(file.path(), "runs"), in_line());
  const absl::StatusOr<Tensor> y = session.Run(Filled({1, 4}, 3));
  ASSERT_TRUE(y.ok()) << y.status();
  EXPECT_EQ(Values(*y), std::vector<float>(4, 6));
}

TEST_P(ApplicationOpsTest, EngineEndsWithItsSession) {
  const ExecutableFile file(DoublingProgram(4));
  {
    TestingSession session(CallGraph(file.path(), "ends"), in_line());
    ASSERT_TRUE(session.Run(Filled({1, 4}, 3)).ok());
    EXPECT_TRUE(EngineManager::Global().Find({{}, "ends"}).ok());
  }
  // With pools, the thread that ended the last call may still be letting go of the engine. One that never
  // ends is a test that never ends, which ctest's limit turns into a failure.
  while (EngineManager::Global().Find({{}, "ends"}).ok()) std::this_thread::yield();
}

TEST_P(ApplicationOpsTest, ServedModelsHaveEnginesOfTheirOwn) {
  const ExecutableFile file(DoublingProgram(4)), other(DoublingProgram(5));
  TestingSession a(CallGraph(file.path(), "same"), in_line(), "call:0", "a");
  TestingSession b(CallGraph(other.path(), "same"), in_line(), "call:0", "b");
  EXPECT_TRUE(a.Run(Filled({1, 4}, 3)).ok());
  EXPECT_TRUE(b.Run(Filled({1, 5}, 3)).ok());
  EXPECT_TRUE(EngineManager::Global().Find({{"a", 1}, "same"}).ok());
  EXPECT_TRUE(EngineManager::Global().Find({{"b", 1}, "same"}).ok());
}

TEST_P(ApplicationOpsTest, WrongShapesAreRefused) {
  const ExecutableFile file(DoublingProgram(4));
  TestingSession session(CallGraph(file.path(), "shapes"), in_line());
  const absl::Status status = session.Run(Filled({1, 5}, 3)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      status.message(),
      HasSubstr("Mismatched input shape at position 0 ('x'). Expected [1,4], but input 0 has shape [1,5]."));
}

TEST_P(ApplicationOpsTest, WrongTypesAreRefused) {
  const ExecutableFile file(DoublingProgram(4));
  tensorflow::GraphDef graph = CallGraph(file.path(), "types");
  (*graph.mutable_node(0)->mutable_attr())["dtype"].set_type(tensorflow::DT_INT32);
  auto* types = (*graph.mutable_node(3)->mutable_attr())["infeed_types"].mutable_list();
  ASSERT_EQ(graph.node(3).name(), "call");
  types->set_type(0, tensorflow::DT_INT32);
  TestingSession session(graph, in_line());
  const absl::Status status = session.Run(Tensor(tensorflow::DT_INT32, {1, 4})).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(),
              HasSubstr("Mismatched input dtype at position 0 ('x'). Expected float32, but input 0 "
                        "has dtype int32."));
}

TEST_P(ApplicationOpsTest, UnknownEngineIsAFailedPrecondition) {
  const ExecutableFile file(DoublingProgram(4));
  tensorflow::GraphDef graph = CallGraph(file.path(), "known");
  (*graph.mutable_node(3)->mutable_attr())["engine_name"].set_s("X");
  TestingSession session(graph, in_line());
  const absl::Status status = session.Run(Filled({1, 4}, 3)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("Engine X does not exist."));
}

TEST_P(ApplicationOpsTest, MissingFileIsAnError) {
  TestingSession session(CallGraph("no/such/file", "missing"), in_line());
  EXPECT_EQ(session.Run(Filled({1, 4}, 3)).status().code(), absl::StatusCode::kNotFound);
}

TEST_P(ApplicationOpsTest, StartUpInputsAreChecked) {
  const ExecutableFile file(MlpProgram(1, false));
  TestingSession none(CallGraph(file.path(), "no_weights"), in_line());
  EXPECT_EQ(none.Run(Filled({1, 784}, 1)).status().code(), absl::StatusCode::kInvalidArgument);

  std::vector<Tensor> weights = MlpWeights();
  TestingSession right(CallGraph(file.path(), "weights", weights), in_line());
  EXPECT_TRUE(right.Run(Filled({1, 784}, 1)).ok());

  Tensor transposed(tensorflow::DT_FLOAT, TensorShape({512, 784}));
  weights[0] = transposed;
  TestingSession wrong(CallGraph(file.path(), "transposed", weights), in_line());
  const absl::Status status = wrong.Run(Filled({1, 784}, 1)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("Mismatched input shape at position 0 ('XLA_Args/w1')"));
}

TEST_P(ApplicationOpsTest, RowBatchingTakesAnyNumberOfRows) {
  const ExecutableFile file(DoublingProgram(3, 4, true));
  TestingSession session(CallGraph(file.path(), "rows"), in_line());
  for (int rows : {1, 4, 9, 0}) {
    Tensor x(tensorflow::DT_FLOAT, {rows, 3});
    for (int i = 0; i < rows * 3; ++i) x.flat<float>()(i) = i;
    const absl::StatusOr<Tensor> y = session.Run(x);
    ASSERT_TRUE(y.ok()) << y.status();
    EXPECT_EQ(y->shape(), x.shape());
    for (int i = 0; i < rows * 3; ++i) EXPECT_EQ(y->flat<float>()(i), 2 * i);
  }
  EXPECT_THAT(session.Run(Filled({2, 4}, 1)).status().message(), HasSubstr("Expected [?,3]"));
}

TEST_P(ApplicationOpsTest, ManyThreadsGetTheirOwnAnswers) {
  const ExecutableFile file(DoublingProgram(4));
  TestingSession session(CallGraph(file.path(), "threads"), in_line());
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        const float value = t * 1000 + i;
        const absl::StatusOr<Tensor> y = session.Run(Filled({1, 4}, value));
        if (!y.ok() || Values(*y) != std::vector<float>(4, 2 * value)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// What comes after the device must not keep the device from its next call.
TEST_P(ApplicationOpsTest, SlowPostprocessingDoesNotHoldUpTheDevice) {
  SlowStep step;
  slow_step = &step;
  const ExecutableFile file(DoublingProgram(4));
  tensorflow::GraphDef graph = CallGraph(file.path(), "slow");
  *graph.add_node() = Node("slow", "TestSlowPostprocessing", {"call"});
  TestingSession session(graph, in_line(), "slow:0");
  TestingSession quick(CallGraph(file.path(), "slow"), in_line());
  std::thread blocked([&] { EXPECT_TRUE(session.Run(Filled({1, 4}, 1)).ok()); });
  step.AwaitRunning(1);
  EXPECT_TRUE(quick.Run(Filled({1, 4}, 1)).ok());
  step.Open();
  blocked.join();
}

// The call waits for company that never comes, until the time of its step is over.
TEST_P(ApplicationOpsTest, TensorFlowCancelsAWaitingCall) {
  TestingProgram program = DoublingProgram(4, 4, true);
  program.header.set_max_wait_us(absl::ToInt64Microseconds(absl::Hours(1)));
  const ExecutableFile file(program);
  TestingSession session(CallGraph(file.path(), "limited"), in_line(), "call:0", "", 50);
  TestingSession keeper(CallGraph(file.path(), "limited"), in_line());
  ASSERT_TRUE(keeper.Run(Filled({4, 4}, 1)).ok());
  EXPECT_FALSE(session.Run(Filled({1, 4}, 1)).ok());
  const EngineStatistics statistics = (*EngineManager::Global().Find({{}, "limited"}))->Statistics();
  // With no thread of its own the session leaves its time limit to the engine.
  EXPECT_EQ(statistics.cancelled + statistics.expired, 1);
  EXPECT_EQ(statistics.queued, 0);
}

INSTANTIATE_TEST_SUITE_P(Threads, ApplicationOpsTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Callers" : "Pool"; });

TEST(CallContextTest, DeadlineReachesTheEngine) {
  const ExecutableFile file(DoublingProgram(4));
  TestingSession session(CallGraph(file.path(), "deadline"), true);
  ASSERT_TRUE(session.Run(Filled({1, 4}, 1)).ok());
  CallerContext context;
  context.deadline = absl::Now() - absl::Seconds(1);
  const ScopedCallerContext scope(&context);
  EXPECT_EQ(session.Run(Filled({1, 4}, 1)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

// In a SavedModel the ops lie inside a function. They still run in the caller's thread, and know their model.
TEST(CallContextTest, ReachesOpsInsideFunctions) {
  const ExecutableFile file(DoublingProgram(4));
  tensorflow::GraphDef graph = CallGraph(file.path(), "inside");
  tensorflow::FunctionDef body;
  body.mutable_signature()->set_name("body");
  body.mutable_signature()->set_is_stateful(true);
  auto* x = body.mutable_signature()->add_input_arg();
  x->set_name("x");
  x->set_type(tensorflow::DT_FLOAT);
  auto* y = body.mutable_signature()->add_output_arg();
  y->set_name("y");
  y->set_type(tensorflow::DT_FLOAT);
  (*body.mutable_ret())["y"] = "call:outfeeds:0";
  for (tensorflow::NodeDef node : graph.node()) {
    if (node.name() == "x") continue;
    if (node.name() == "runtime") node.set_input(0, "filename:output:0");
    if (node.name() == "call") node.set_input(1, "runtime:anchor:0");
    *body.add_node_def() = std::move(node);
  }
  graph.clear_node();
  *graph.add_node() = Placeholder("x", tensorflow::DT_FLOAT);
  tensorflow::NodeDef call = Node("outer", "StatefulPartitionedCall", {"x"});
  const std::vector<tensorflow::DataType> one_float{tensorflow::DT_FLOAT};
  tensorflow::AddNodeAttr("Tin", one_float, &call);
  tensorflow::AddNodeAttr("Tout", one_float, &call);
  (*call.mutable_attr())["f"].mutable_func()->set_name("body");
  *graph.add_node() = call;
  *graph.mutable_library()->add_function() = body;

  TestingSession session(graph, true, "outer:0", "model");
  const absl::StatusOr<Tensor> result = session.Run(Filled({1, 4}, 3));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(Values(*result), std::vector<float>(4, 6));
  EXPECT_TRUE(EngineManager::Global().Find({{"model", 1}, "inside"}).ok());
  CallerContext context;
  context.deadline = absl::Now() - absl::Seconds(1);
  const ScopedCallerContext scope(&context);
  EXPECT_EQ(session.Run(Filled({1, 4}, 1)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

// Two calls wait for company that never comes; the caller of one goes away.
TEST(CallContextTest, CancellationTakesAWaitingCallOut) {
  TestingProgram program = DoublingProgram(4, 4, true);
  program.header.set_max_wait_us(absl::ToInt64Microseconds(absl::Hours(1)));
  const ExecutableFile file(program);
  TestingSession session(CallGraph(file.path(), "cancelled"), true);
  CallerContext context;
  context.cancelled = [] { return true; };
  const ScopedCallerContext scope(&context);
  EXPECT_EQ(session.Run(Filled({1, 4}, 1)).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace tfipu
