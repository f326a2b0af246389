#include "serving/servables/saved_model_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cc/base/local_file.h"
#include "cc/base/status_macros.h"
#include "cc/executable/format.h"
#include "serving/core/loader.h"
#include "tensorflow/cc/saved_model/constants.h"
#include "tensorflow/cc/saved_model/loader_util.h"
#include "tensorflow/core/framework/attr_value.pb.h"
#include "tensorflow/core/framework/function.pb.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/platform/path.h"
#include "tensorflow/core/protobuf/tensor_bundle.pb.h"
#include "tensorflow/core/util/tensor_bundle/tensor_bundle.h"
#include "xla/tsl/lib/hash/crc32c.h"

namespace tfipu::serving {
namespace {

using tensorflow::MetaGraphDef;
using tensorflow::NodeDef;

constexpr char kWarmUpFile[] = "assets.extra/tf_serving_warmup_requests";
constexpr char kBatchingFile[] = "batching_params.pbtxt";

// Files below one folder, named by their path from there.
class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)), is_remote_(IsRemotePath(path_)) {}

  std::string PathOf(const std::string& name) const { return tensorflow::io::JoinPath(path_, name); }

  // NotFound when there is none, FailedPrecondition when it is not a regular file.
  absl::StatusOr<std::uint64_t> SizeOf(const std::string& name) const {
    const std::string path = PathOf(name);
    if (is_remote_) {
      std::uint64_t size = 0;
      TFIPU_RETURN_IF_ERROR(tensorflow::Env::Default()->GetFileSize(path, &size));
      return size;
    }
    struct stat info;
    if (stat(path.c_str(), &info) != 0) return absl::ErrnoToStatus(errno, path);
    if (S_ISREG(info.st_mode)) return static_cast<std::uint64_t>(info.st_size);
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is ", FileKind(info.st_mode), ", expected a regular file"));
  }

  // NotWholeError unless it is there with that many bytes at least.
  absl::Status Demand(const std::string& name, std::uint64_t size) const {
    const absl::StatusOr<std::uint64_t> found = SizeOf(name);
    if (absl::IsNotFound(found.status())) return NotWholeError(name);
    TFIPU_RETURN_IF_ERROR(found.status());
    if (*found >= size) return absl::OkStatus();
    return NotWholeError(absl::StrCat(name, " (has ", *found, " of ", size, " bytes)"));
  }

  // OK when it is not there.
  absl::Status DemandRegular(const std::string& name) const {
    const absl::Status status = SizeOf(name).status();
    return absl::IsNotFound(status) ? absl::OkStatus() : status;
  }

  // Up to `size` bytes from `offset`; fewer at the end of the file.
  absl::StatusOr<std::string> Read(const std::string& name, std::uint64_t offset, std::size_t size) const {
    std::unique_ptr<tensorflow::RandomAccessFile> file;
    TFIPU_RETURN_IF_ERROR(tensorflow::Env::Default()->NewRandomAccessFile(PathOf(name), &file));
    return ReadFrom(*file, offset, size);
  }
  static absl::StatusOr<std::string> ReadFrom(const tensorflow::RandomAccessFile& file, std::uint64_t offset,
                                              std::size_t size) {
    std::string bytes(size, '\0');
    absl::string_view read;
    const absl::Status status = file.Read(offset, read, absl::MakeSpan(bytes));
    if (!status.ok() && !absl::IsOutOfRange(status)) return status;
    return std::string(read);
  }

 private:
  const std::string path_;
  const bool is_remote_;
};

// The node of an input in a graph ("node:0") or a function ("node:output:0").
absl::string_view NodeOf(absl::string_view input) { return input.substr(0, input.find(':')); }

// Whether a RestoreV2 among the nodes names a tensor that is a variable's, or names that are not constants.
template <typename Nodes>
bool Restores(const Nodes& nodes) {
  for (const NodeDef& node : nodes) {
    if (node.op() != "RestoreV2" || node.input_size() < 2) continue;
    const absl::string_view names_node = NodeOf(node.input(1));
    const auto found = std::find_if(nodes.begin(), nodes.end(),
                                    [&](const NodeDef& other) { return other.name() == names_node; });
    if (found == nodes.end() || found->op() != "Const" || found->attr().count("value") == 0) return true;
    tensorflow::Tensor names;
    if (!names.FromProto(found->attr().at("value").tensor()) || names.dtype() != tensorflow::DT_STRING) {
      return true;
    }
    const auto flat = names.flat<tensorflow::tstring>();
    for (int i = 0; i < flat.size(); ++i) {
      if (flat(i) != tensorflow::kObjectGraphProtoKey) return true;
    }
  }
  return false;
}

absl::Status CheckVariables(const Folder& folder) {
  const std::string prefix = tensorflow::io::JoinPath(tensorflow::kSavedModelVariablesDirectory,
                                                      tensorflow::kSavedModelVariablesFilename);
  const std::string index = absl::StrCat(prefix, ".index");
  TFIPU_RETURN_IF_ERROR(folder.Demand(index, 1));
  tensorflow::BundleReader reader(tensorflow::Env::Default(), folder.PathOf(prefix));
  if (!reader.status().ok()) {
    return NotWholeError(absl::StrCat("the rest of ", index, " (", reader.status().message(), ")"));
  }
  int shards = 0;
  std::map<int, std::uint64_t> sizes;
  for (reader.Seek(""); reader.Valid(); reader.Next()) {
    const absl::string_view value = reader.value();
    const auto parse = [&value](auto* message) {
      return message->ParseFromArray(value.data(), static_cast<int>(value.size()));
    };
    if (reader.key().empty()) {
      tensorflow::BundleHeaderProto header;
      if (parse(&header)) shards = header.num_shards();
      continue;
    }
    tensorflow::BundleEntryProto entry;
    if (!parse(&entry) || entry.offset() < 0 || entry.size() < 0) continue;  // for the load to say
    // The entry of a tensor in slices has no bytes of its own.
    if (!entry.slices().empty()) continue;
    std::uint64_t& size = sizes[entry.shard_id()];
    size =
        std::max(size, static_cast<std::uint64_t>(entry.offset()) + static_cast<std::uint64_t>(entry.size()));
  }
  for (const auto& [shard, size] : sizes) {
    TFIPU_RETURN_IF_ERROR(
        folder.Demand(absl::StrFormat("%s.data-%05d-of-%05d", prefix, shard, shards), size));
  }
  return absl::OkStatus();
}

// Of a file that begins as an executable does, and is one of a model with executables.
absl::Status CheckExecutable(const Folder& folder, const std::string& name) {
  const absl::StatusOr<std::string> read = folder.Read(name, 0, kPreambleSize);
  TFIPU_RETURN_IF_ERROR(read.status());
  const absl::string_view preamble = *read;
  if (!absl::StartsWith(kMagic, preamble.substr(0, kMagic.size()))) return absl::OkStatus();
  if (preamble.size() < kPreambleSize) return folder.Demand(name, kPreambleSize);
  const absl::StatusOr<std::uint64_t> header_size = ParsePreamble(preamble);
  if (!header_size.ok()) return absl::OkStatus();
  TFIPU_RETURN_IF_ERROR(folder.Demand(name, kPreambleSize + *header_size));
  TFIPU_ASSIGN_OR_RETURN(const std::string bytes, folder.Read(name, kPreambleSize, *header_size));
  ExecutableHeader header;
  if (!header.ParseFromString(bytes)) return absl::OkStatus();
  return folder.Demand(name, header.file_size());
}

bool HasExecutables(const MetaGraphDef& meta_graph) {
  const auto starts_engine = [](const NodeDef& node) { return node.op() == "ApplicationRuntime"; };
  const auto& graph = meta_graph.graph_def();
  return std::any_of(graph.node().begin(), graph.node().end(), starts_engine) ||
         std::any_of(
             graph.library().function().begin(), graph.library().function().end(), [&](const auto& function) {
               return std::any_of(function.node_def().begin(), function.node_def().end(), starts_engine);
             });
}

absl::Status CheckAssets(const MetaGraphDef& meta_graph, const Folder& folder) {
  std::vector<tensorflow::AssetFileDef> assets;
  if (!tensorflow::internal::GetAssetFileDefs(meta_graph, &assets).ok()) return absl::OkStatus();
  const bool has_executables = HasExecutables(meta_graph);
  for (const tensorflow::AssetFileDef& asset : assets) {
    const std::string name =
        tensorflow::io::JoinPath(tensorflow::kSavedModelAssetsDirectory, asset.filename());
    TFIPU_RETURN_IF_ERROR(folder.Demand(name, 0));
    if (has_executables) TFIPU_RETURN_IF_ERROR(CheckExecutable(folder, name));
  }
  return absl::OkStatus();
}

// A TFRecord file: for each record its length (8 bytes), a checksum of that (4), the record, a checksum of it
// (4).
absl::Status CheckRecords(const Folder& folder, const std::string& name) {
  constexpr std::size_t kHeader = 12, kFooter = 4;
  const absl::StatusOr<std::uint64_t> size = folder.SizeOf(name);
  if (!size.ok()) return absl::IsNotFound(size.status()) ? absl::OkStatus() : size.status();
  std::unique_ptr<tensorflow::RandomAccessFile> file;
  TFIPU_RETURN_IF_ERROR(tensorflow::Env::Default()->NewRandomAccessFile(folder.PathOf(name), &file));
  for (std::uint64_t offset = 0; offset < *size;) {
    TFIPU_ASSIGN_OR_RETURN(const std::string header, Folder::ReadFrom(*file, offset, kHeader));
    if (header.size() < kHeader) return folder.Demand(name, offset + kHeader);
    std::uint64_t length = 0, checksum = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(header[i]);
    for (int i = 11; i >= 8; --i) checksum = checksum << 8 | static_cast<unsigned char>(header[i]);
    // Not a record: for the warm-up to say.
    if (length > std::uint64_t{1} << 48 ||
        tsl::crc32c::Unmask(static_cast<std::uint32_t>(checksum)) != tsl::crc32c::Value(header.data(), 8)) {
      break;
    }
    TFIPU_RETURN_IF_ERROR(folder.Demand(name, offset + kHeader + length + kFooter));
    offset += kHeader + length + kFooter;
  }
  return absl::OkStatus();
}

}  // namespace

bool RestoresVariables(const MetaGraphDef& meta_graph) {
  if (meta_graph.saver_def().restore_op_name().empty()) return false;
  const auto& graph = meta_graph.graph_def();
  return Restores(graph.node()) ||
         std::any_of(graph.library().function().begin(), graph.library().function().end(),
                     [](const auto& function) { return Restores(function.node_def()); });
}

absl::Status CheckGraphFile(const std::string& path) {
  const Folder folder(path);
  for (const char* const name : {tensorflow::kSavedModelFilenamePb, tensorflow::kSavedModelFilenamePbTxt,
                                 tensorflow::kSavedModelFilenameCpb}) {
    const absl::StatusOr<std::uint64_t> size = folder.SizeOf(name);
    if (absl::IsNotFound(size.status())) continue;
    TFIPU_RETURN_IF_ERROR(size.status());
    return folder.Demand(name, 1);
  }
  return NotWholeError(tensorflow::kSavedModelFilenamePb);
}

absl::Status CheckFilesOf(const MetaGraphDef& meta_graph, const std::string& path) {
  const Folder folder(path);
  if (RestoresVariables(meta_graph)) TFIPU_RETURN_IF_ERROR(CheckVariables(folder));
  TFIPU_RETURN_IF_ERROR(CheckAssets(meta_graph, folder));
  TFIPU_RETURN_IF_ERROR(CheckRecords(folder, kWarmUpFile));
  for (const char* const name : {kBatchingFile, tensorflow::kFingerprintFilenamePb}) {
    TFIPU_RETURN_IF_ERROR(folder.DemandRegular(name));
  }
  return absl::OkStatus();
}

}  // namespace tfipu::serving
