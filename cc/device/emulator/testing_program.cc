#include "cc/device/emulator/testing_program.h"

#include <stdlib.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/device/emulator/emulator.h"
#include "cc/executable/executable.h"
#include "xla/array2d.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/hlo/parser/hlo_parser.h"
#include "xla/shape_util.h"

namespace tfipu {
namespace {

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
    std::abort();
  }
  return *std::move(value);
}

}  // namespace

std::string ParseHlo(absl::string_view text) {
  return OrDie(xla::ParseAndReturnUnverifiedModule(text))->ToProto().SerializeAsString();
}

std::string MlpHlo(std::int64_t batch, const std::vector<std::int64_t>& widths, int seed) {
  xla::XlaBuilder builder("mlp");
  xla::XlaOp x = xla::Parameter(&builder, 0, xla::ShapeUtil::MakeShape(xla::F32, {batch, widths[0]}), "x");
  for (std::size_t layer = 1; layer < widths.size(); ++layer) {
    const std::int64_t rows = widths[layer - 1], columns = widths[layer];
    xla::Array2D<float> weights(rows, columns);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c)
        weights(r, c) = std::sin(0.37f * (r * columns + c) + 10 * layer + seed) / rows;
    }
    std::vector<float> bias(columns);
    for (std::int64_t c = 0; c < columns; ++c) bias[c] = std::cos(0.53f * c + seed);
    x = xla::Add(xla::Dot(x, xla::ConstantR2FromArray2D(&builder, weights)),
                 xla::ConstantR1<float>(&builder, bias), {1});
    x = xla::Max(x, xla::ConstantR0<float>(&builder, 0));
  }
  return OrDie(builder.Build()).proto().SerializeAsString();
}

TestingProgram TestingProgram::Chain(std::vector<std::string> stages, Schedule schedule) {
  for (std::string& stage : stages) stage = ParseHlo(stage);
  return ChainOfModules(std::move(stages), {4}, schedule);
}

TestingProgram TestingProgram::ChainOfModules(std::vector<std::string> stages,
                                              std::vector<std::int64_t> infeed_dims, Schedule schedule) {
  TestingProgram program;
  ExecutableHeader& header = program.header;
  header.set_name("program");
  header.set_iterations(10);
  header.set_schedule(schedule);
  header.set_hold(schedule == SEQUENTIAL ? 0 : stages.size() - 1);
  header.set_timeout_us(5000);
  header.set_replicas(1);
  header.mutable_target()->set_num_ipus(stages.size());
  IpuTarget& target = *header.mutable_target()->mutable_ipu();
  target.set_architecture("ipu2");
  target.set_tiles_per_ipu(1472);
  target.set_memory_per_tile(624 * 1024);
  TensorSpec& infeed = *header.add_infeeds();
  infeed.set_name("x");
  infeed.set_type(FLOAT32);
  for (std::int64_t dim : infeed_dims) infeed.add_dims(dim);
  header.add_outfeeds()->set_name("y");
  for (std::size_t s = 0; s < stages.size(); ++s) {
    Stage& stage = *header.add_stages();
    stage.set_name(absl::StrCat("stage", s));
    stage.set_ipu(s);
    ValueRef& argument = *stage.add_arguments();
    if (s > 0) {
      argument.set_source(ValueRef::STAGE_RESULT);
      argument.set_stage(s - 1);
    }
  }
  ValueRef& value = *header.add_outfeed_values();
  value.set_source(ValueRef::STAGE_RESULT);
  value.set_stage(stages.size() - 1);
  program.hlo = std::move(stages);
  return program;
}

absl::StatusOr<std::shared_ptr<const Executable>> TestingProgram::Compile(
    const CompileOptions& options) const {
  std::string folder = (std::filesystem::temp_directory_path() / "testing_program.XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return absl::InternalError(absl::StrCat("cannot make ", folder));
  const std::string path = folder + "/program.ipu";
  absl::Status status = tfipu::Compile(header, hlo, path, options);
  absl::StatusOr<std::shared_ptr<const Executable>> executable = absl::UnknownError("not opened");
  if (status.ok()) executable = Executable::Open(path);
  std::filesystem::remove_all(folder);  // a mapped file stays readable
  TFIPU_RETURN_IF_ERROR(status);
  return executable;
}

absl::StatusOr<std::shared_ptr<Program>> TestingProgram::Load(const CompileOptions& options) const {
  TFIPU_ASSIGN_OR_RETURN(std::shared_ptr<const Executable> executable, Compile(options));
  return Emulator().Load(std::move(executable));
}

std::unique_ptr<Device> TestingProgram::MakeDevice(std::vector<ConstBuffer> startup_inputs) const {
  return OrDie(OrDie(Load())->CreateDevice(startup_inputs));
}

}  // namespace tfipu
