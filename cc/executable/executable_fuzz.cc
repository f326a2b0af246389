#include "cc/executable/executable_fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "absl/log/globals.h"
#include "absl/strings/str_cat.h"
#include "cc/base/sha256.h"
#include "cc/executable/compatibility.h"
#include "cc/executable/executable.h"
#include "cc/executable/format.h"
#include "cc/executable/row_variants.h"
#include "cc/executable/validate.h"

namespace tfipu {
namespace {

void Demand(bool promise) {
  if (!promise) std::abort();
}

std::string File(absl::string_view input) {
  if (input.empty()) return "";
  const auto mode = static_cast<FuzzMode>(static_cast<unsigned char>(input[0]) % 3);
  input.remove_prefix(1);
  if (mode == FuzzMode::kFile || input.size() < 2) return std::string(input);

  const std::size_t length = static_cast<unsigned char>(input[0]) | static_cast<unsigned char>(input[1]) << 8;
  input.remove_prefix(2);
  std::string bytes(input.substr(0, length));
  const std::string rest(input.substr(bytes.size()));
  ExecutableHeader header;
  if (mode == FuzzMode::kHeader || !header.ParseFromString(bytes)) return MakePreamble(bytes) + bytes + rest;

  // A checksum changes the header's bytes but not its size, if it is there in its full size first.
  ForEachBlob(header,
              [](const std::string&, Blob& blob) { blob.set_sha256(std::string(Sha256::kSize, 'x')); });
  header.set_file_size(kPreambleSize + bytes.size() + rest.size());
  header.set_file_size(kPreambleSize + header.ByteSizeLong() + rest.size());
  const std::size_t begin = kPreambleSize + header.ByteSizeLong();
  ForEachBlob(header, [&](const std::string&, Blob& blob) {
    if (blob.offset() < begin || blob.offset() - begin > rest.size()) return;
    blob.set_sha256(Sha256::Of(absl::string_view(rest).substr(blob.offset() - begin, blob.size())));
  });
  bytes = header.SerializeAsString();
  return MakePreamble(bytes) + bytes + rest;
}

// Uses the executable as an engine would: without a check of its own.
void Use(const Executable& executable) {
  const ExecutableHeader& header = executable.header();
  Demand(header.stages_size() > 0 && header.iterations() > 0 && header.target().num_ipus() > 0);
  Demand(header.outfeeds_size() == header.outfeed_values_size());

  const auto spec = [&](const ValueRef& ref) -> const TensorSpec& {
    switch (ref.source()) {
      case ValueRef::INFEED:
        return header.infeeds().at(ref.index());
      case ValueRef::STARTUP_INPUT:
        return header.startup_inputs().at(ref.index());
      case ValueRef::WEIGHT:
        return header.weights().at(ref.index()).spec();
      case ValueRef::STAGE_RESULT:
        return header.stages().at(ref.stage()).results().at(ref.index());
      case ValueRef::CARRIED:
        return header.carried().at(ref.index()).spec();
      default:
        std::abort();
    }
  };
  for (int i = 0; i < header.stages_size(); ++i) {
    Demand(header.stages(i).ipu() < header.target().num_ipus());
    for (const ValueRef& ref : header.stages(i).arguments()) {
      Demand(ref.source() != ValueRef::STAGE_RESULT || ref.stage() < static_cast<std::uint32_t>(i));
      Demand(TensorSize(spec(ref)).ok());
    }
    Demand(!executable.blob(header.stages(i).code()).empty());
  }
  for (const RowVariant& variant : header.row_variants()) {
    Demand(variant.stages_size() == header.stages_size());
    for (const Stage& stage : variant.stages()) Demand(!executable.blob(stage.code()).empty());
    Demand(Validate(HeaderOfVariant(header, variant)).ok());
  }
  for (int i = 0; i < header.outfeeds_size(); ++i) {
    Demand(*TensorSize(header.outfeeds(i)) == *TensorSize(spec(header.outfeed_values(i))));
  }
  for (const Carried& carried : header.carried()) {
    Demand(*TensorSize(carried.spec()) == *TensorSize(spec(carried.initial())));
    Demand(*TensorSize(carried.spec()) == *TensorSize(spec(carried.next())));
  }
  for (const Weight& weight : header.weights()) {
    Demand(executable.blob(weight.blob()).size() == *TensorSize(weight.spec()));
  }
  ForEachBlob(header, [&](const std::string&, const Blob& blob) {
    const ConstBuffer bytes = executable.blob(blob);
    Demand(bytes.size() == blob.size() && IsAligned(bytes.data()));
    Demand(Sha256::Of(bytes) == blob.sha256());
  });
  (void)CheckRuntimeHash(header.build());
}

}  // namespace

bool OpenFuzzInput(absl::string_view input) {
  // A file in memory, reached through its descriptor's name. One for the whole run.
  static const int descriptor = [] {
    absl::SetMinLogLevel(absl::LogSeverityAtLeast::kFatal);
    return memfd_create("executable_fuzz", MFD_CLOEXEC);
  }();
  const std::string bytes = File(input);
  if (ftruncate(descriptor, 0) != 0 ||
      pwrite(descriptor, bytes.data(), bytes.size(), 0) != ssize_t(bytes.size())) {
    std::abort();
  }
  const auto executable = Executable::Open(absl::StrCat("/proc/self/fd/", descriptor));
  if (executable.ok()) Use(**executable);
  return executable.ok();
}

}  // namespace tfipu

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tfipu::OpenFuzzInput({reinterpret_cast<const char*>(data), size});
  return 0;
}
