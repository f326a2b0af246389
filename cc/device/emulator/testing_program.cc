#include "cc/device/emulator/testing_program.h"

#include <stdlib.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"
#include "cc/device/emulator/emulator.h"
#include "cc/executable/executable.h"
#include "xla/hlo/parser/hlo_parser.h"

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

TestingProgram TestingProgram::Chain(std::vector<std::string> stages, Schedule schedule) {
  TestingProgram program;
  ExecutableHeader& header = program.header;
  header.set_name("program");
  header.set_iterations(10);
  header.set_schedule(schedule);
  header.set_hold(schedule == SEQUENTIAL ? 0 : stages.size() - 1);
  header.set_timeout_us(5000);
  header.set_replicas(1);
  Target& target = *header.mutable_target();
  target.set_architecture("ipu2");
  target.set_num_ipus(stages.size());
  target.set_tiles_per_ipu(1472);
  target.set_memory_per_tile(624 * 1024);
  TensorSpec& infeed = *header.add_infeeds();
  infeed.set_name("x");
  infeed.set_type(FLOAT32);
  infeed.add_dims(4);
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
  std::vector<std::string> stages;
  for (const std::string& text : hlo) stages.push_back(ParseHlo(text));
  absl::Status status = tfipu::Compile(header, stages, path, options);
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
