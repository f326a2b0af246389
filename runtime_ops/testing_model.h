// Executables and sessions for the tests and benchmarks of the ops.
#ifndef RUNTIME_OPS_TESTING_MODEL_H_
#define RUNTIME_OPS_TESTING_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "cc/device/emulator/testing_program.h"
#include "tensorflow/core/framework/graph.pb.h"
#include "tensorflow/core/framework/node_def.pb.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session.h"

namespace tfipu {

// All of these end the program when something does not work.

// y = 2 * x, both float32[rows, width]. One row and no row batching unless said otherwise.
TestingProgram DoublingProgram(int width, int rows = 1, bool row_batching = false);

// y = relu(relu(x w1) w2) w3 on float32[rows, 784], with 512, 512 and 10 units. The weights are start-up
// inputs.
TestingProgram MlpProgram(int rows, bool row_batching);
std::vector<tensorflow::Tensor> MlpWeights();

// An executable file in a folder of its own that goes with the object.
class ExecutableFile {
 public:
  explicit ExecutableFile(const TestingProgram& program);
  ~ExecutableFile();
  const std::string& path() const { return path_; }

 private:
  std::string folder_;
  std::string path_;
};

tensorflow::NodeDef Node(const std::string& name, const std::string& op, std::vector<std::string> inputs);
tensorflow::NodeDef Constant(const std::string& name, const tensorflow::Tensor& value);
tensorflow::NodeDef Placeholder(const std::string& name, tensorflow::DataType type);

// Nodes "x" (to be fed), "runtime" and "call", whose output 0 is the result.
tensorflow::GraphDef CallGraph(const std::string& path, const std::string& engine,
                               const std::vector<tensorflow::Tensor>& startup_inputs = {});

// A session on a graph. With `in_line`, kernels run in the thread that runs the session.
class TestingSession {
 public:
  TestingSession(const tensorflow::GraphDef& graph, bool in_line, const std::string& fetch = "call:0",
                 const std::string& model_name = "", int timeout_ms = 0);
  ~TestingSession();

  absl::StatusOr<tensorflow::Tensor> Run(const tensorflow::Tensor& x);

 private:
  std::unique_ptr<tensorflow::Session> session_;
  tensorflow::Session::CallableHandle callable_;
};

tensorflow::Tensor Filled(const tensorflow::TensorShape& shape, float value);

}  // namespace tfipu

#endif  // RUNTIME_OPS_TESTING_MODEL_H_
