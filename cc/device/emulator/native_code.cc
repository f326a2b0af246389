#include "cc/device/emulator/native_code.h"

#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/base/status_macros.h"
#include "xla/backends/cpu/nanort/nanort_executable.h"
#include "xla/primitive_util.h"
#include "xla/service/cpu/executable.pb.h"
#include "xla/tsl/concurrency/async_value_ref.h"

namespace tfipu {
namespace {

using xla::cpu::NanoRtExecutable;

std::size_t SizeOf(const xla::ShapeProto& shape) {
  std::size_t size = xla::primitive_util::ByteWidth(shape.element_type());
  for (std::int64_t dimension : shape.dimensions()) size *= dimension;
  return size;
}

class XlaCode : public NativeCode {
 public:
  XlaCode(std::unique_ptr<NanoRtExecutable> executable, bool always_ends)
      : executable_(std::move(executable)), always_ends_(always_ends) {}

  std::size_t temp_size() const override { return executable_->temp_buffer_size(); }
  bool always_ends() const override { return always_ends_; }

  absl::Status Run(absl::Span<const ConstBuffer> arguments, absl::Span<const MutableBuffer> results,
                   MutableBuffer temp) const override {
    absl::InlinedVector<NanoRtExecutable::Argument, 16> xla_arguments;
    absl::InlinedVector<NanoRtExecutable::Result, 8> xla_results;
    xla_arguments.reserve(arguments.size());
    xla_results.reserve(results.size());
    for (ConstBuffer argument : arguments) xla_arguments.emplace_back(argument);
    for (MutableBuffer result : results) xla_results.emplace_back(result);
    auto event = executable_->Execute(xla_arguments, xla_results, temp);
    if (ABSL_PREDICT_FALSE(!event.IsAvailable())) tsl::BlockUntilReady(event);
    return ABSL_PREDICT_FALSE(event.IsError()) ? event.GetError() : absl::OkStatus();
  }

 private:
  const std::unique_ptr<NanoRtExecutable> executable_;
  const bool always_ends_;
};

absl::Status CheckSizes(absl::string_view what, const std::vector<std::size_t>& expected,
                        const std::vector<std::size_t>& found) {
  if (found == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("The code has ", found.size(), " ", what, " of ",
                                                 absl::StrJoin(found, ", "), " bytes, expected ",
                                                 expected.size(), " of ", absl::StrJoin(expected, ", ")));
}

absl::Status CheckSignature(const xla::HloModuleProto& module, const std::vector<std::size_t>& argument_sizes,
                            const std::vector<std::size_t>& result_sizes) {
  std::vector<std::size_t> found;
  for (const xla::ShapeProto& parameter : module.host_program_shape().parameters()) {
    found.push_back(SizeOf(parameter));
  }
  TFIPU_RETURN_IF_ERROR(CheckSizes("arguments", argument_sizes, found));
  found.clear();
  const xla::ShapeProto& result = module.host_program_shape().result();
  for (const xla::ShapeProto& element : result.tuple_shapes()) found.push_back(SizeOf(element));
  if (result.element_type() != xla::TUPLE) found.push_back(SizeOf(result));
  return CheckSizes("results", result_sizes, found);
}

// XLA notes in a loop's configuration how often it runs, when it knows.
bool AlwaysEnds(const xla::HloModuleProto& module) {
  for (const xla::HloComputationProto& computation : module.computations()) {
    for (const xla::HloInstructionProto& instruction : computation.instructions()) {
      if (instruction.opcode() == "while" &&
          !absl::StrContains(instruction.backend_config(), "known_trip_count")) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NativeCode>> NativeCode::Load(ConstBuffer code,
                                                             std::vector<std::size_t> argument_sizes,
                                                             std::vector<std::size_t> result_sizes) {
  xla::cpu::CompilationResultProto proto;
  if (!proto.ParseFromArray(code.data(), code.size())) {
    return absl::InvalidArgumentError("The stage's code is no xla.cpu.CompilationResultProto");
  }
  const xla::HloModuleProto& module = proto.hlo_module().hlo_module();
  TFIPU_RETURN_IF_ERROR(CheckSignature(module, argument_sizes, result_sizes));
  const bool always_ends = AlwaysEnds(module);
  auto executable = NanoRtExecutable::Create(std::move(proto));
  if (!executable.ok()) return executable.status();
  return std::make_unique<XlaCode>(*std::move(executable), always_ends);
}

}  // namespace tfipu
