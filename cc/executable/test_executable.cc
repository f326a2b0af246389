#include "cc/executable/test_executable.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "cc/executable/executable.h"
#include "cc/executable/format.h"
#include "cc/executable/tensorflow_build.h"

namespace tfipu {
namespace {

void Describe(TensorSpec* spec, const std::string& name, std::initializer_list<int> dims) {
  spec->set_name(name);
  spec->set_type(FLOAT32);
  for (int dim : dims) spec->add_dims(dim);
}

void Refer(ValueRef* ref, ValueRef::Source source, int index, int stage = 0) {
  ref->set_source(source);
  ref->set_index(index);
  ref->set_stage(stage);
}

}  // namespace

ExecutableHeader TestHeader() {
  ExecutableHeader header;
  *header.mutable_build() = TensorFlowBuild();
  header.mutable_target()->set_num_ipus(2);
  IpuTarget& target = *header.mutable_target()->mutable_ipu();
  target.set_type(IpuTarget::IPU_MODEL);
  target.set_architecture("ipu2");
  target.set_tiles_per_ipu(1472);
  target.set_memory_per_tile(638976);
  target.set_cpu("x86-64");
  target.add_cpu_features("sse2");
  header.set_name("test");
  header.set_iterations(4);
  header.set_schedule(GROUPED);
  header.set_hold(1);
  header.set_timeout_us(5000);
  (*header.mutable_options())["made_for"] = "tests";
  (*header.mutable_options())["another"] = "option";

  Describe(header.add_startup_inputs(), "start", {8});
  Describe(header.add_infeeds(), "x", {4, 8});
  Describe(header.add_outfeeds(), "y", {4, 8});

  Stage* first = header.add_stages();
  first->set_name("first");
  Refer(first->add_arguments(), ValueRef::INFEED, 0);
  Refer(first->add_arguments(), ValueRef::WEIGHT, 0);
  Describe(first->add_results(), "hidden", {4, 8});
  first->set_temp_size(64);

  Stage* second = header.add_stages();
  second->set_name("second");
  second->set_ipu(1);
  Refer(second->add_arguments(), ValueRef::STAGE_RESULT, 0, 0);
  Refer(second->add_arguments(), ValueRef::STARTUP_INPUT, 0);
  Refer(second->add_arguments(), ValueRef::CARRIED, 0);
  Describe(second->add_results(), "y", {4, 8});
  Describe(second->add_results(), "state", {8});

  Weight* weight = header.add_weights();
  Describe(weight->mutable_spec(), "w", {8, 4096});

  Carried* carried = header.add_carried();
  Describe(carried->mutable_spec(), "state", {8});
  Refer(carried->mutable_initial(), ValueRef::STARTUP_INPUT, 0);
  Refer(carried->mutable_next(), ValueRef::STAGE_RESULT, 1, 1);

  Refer(header.add_outfeed_values(), ValueRef::STAGE_RESULT, 0, 1);
  return header;
}

void AddTestBlobs(ExecutableHeader& header, ExecutableWriter& writer) {
  for (Stage& stage : *header.mutable_stages()) {
    *stage.mutable_code() = writer.AddBlob("code of " + stage.name());
    *stage.mutable_hlo() = writer.AddBlob("hlo of " + stage.name());
  }
  for (RowVariant& variant : *header.mutable_row_variants()) {
    for (Stage& stage : *variant.mutable_stages()) {
      *stage.mutable_code() = writer.AddBlob(stage.name() + " for " + std::to_string(variant.rows()));
    }
  }
  for (Weight& weight : *header.mutable_weights()) {
    *weight.mutable_blob() = writer.AddBlob(std::string(*TensorSize(weight.spec()), 'w'));
  }
}

std::string TestExecutableBytes() {
  ExecutableHeader header = TestHeader();
  ExecutableWriter writer;
  AddTestBlobs(header, writer);
  const std::string path = TestPath("bytes");
  if (!writer.Write(header, path).ok()) return "";
  std::string bytes = ReadBytes(path);
  unlink(path.c_str());
  return bytes;
}

std::string ForgedBytes(const ExecutableHeader& header, const std::string& rest) {
  const std::string bytes = header.SerializeAsString();
  return MakePreamble(bytes) + bytes + rest;
}

std::string TestPath(const std::string& name) {
  const char* folder = std::getenv("TMPDIR");
  return std::string(folder != nullptr ? folder : "/tmp") + "/tfipu_test." + std::to_string(getpid()) + "." +
         name;
}

void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace tfipu
