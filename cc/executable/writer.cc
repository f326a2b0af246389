#include "cc/executable/writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <map>

#include "absl/strings/str_cat.h"
#include "cc/base/sha256.h"
#include "cc/base/status_macros.h"
#include "cc/executable/format.h"
#include "cc/executable/validate.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

namespace tfipu {
namespace {

// A file that exists only if Commit() was reached.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& path) : path_(path) {
    static std::atomic<int> counter{0};
    do {
      temporary_ = absl::StrCat(path, ".", getpid(), ".", counter.fetch_add(1), ".tmp");
      descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor_ < 0 && errno == EEXIST);
    if (descriptor_ < 0) status_ = Error("create");
  }
  ~TemporaryFile() {
    if (descriptor_ < 0) return;
    close(descriptor_);
    unlink(temporary_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void Append(absl::string_view bytes) {
    while (status_.ok() && !bytes.empty()) {
      const ssize_t written = write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        status_ = Error("write");
      } else {
        bytes.remove_prefix(written);
      }
    }
  }

  absl::Status Commit() {
    if (status_.ok() && fsync(descriptor_) != 0) status_ = Error("sync");
    if (status_.ok() && rename(temporary_.c_str(), path_.c_str()) != 0)
      status_ = Error("rename to its final name");
    if (!status_.ok()) return status_;
    close(descriptor_);
    descriptor_ = -1;
    SyncFolder();
    return absl::OkStatus();
  }

 private:
  absl::Status Error(absl::string_view verb) const {
    return absl::ErrnoToStatus(errno, absl::StrCat("Cannot ", verb, " '", temporary_, "'"));
  }

  // So that the new name survives a power failure. Some file systems cannot; the file itself is safe by then.
  void SyncFolder() const {
    const std::size_t slash = path_.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return;
    fsync(descriptor);
    close(descriptor);
  }

  const std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
  absl::Status status_;
};

std::string Serialize(const ExecutableHeader& header) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  header.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

}  // namespace

Blob ExecutableWriter::AddBlob(std::string bytes) {
  const std::string sha256 = Sha256::Of(bytes);
  std::uint64_t end = 0;
  for (const Added& added : blobs_) {
    if (added.blob.sha256() == sha256 && added.blob.size() == bytes.size()) return added.blob;
    end = added.blob.offset() + added.blob.size();
  }
  Blob blob;
  blob.set_offset(AlignUp(end, BlobAlignment(bytes.size())));
  blob.set_size(bytes.size());
  blob.set_sha256(sha256);
  blobs_.push_back({std::move(bytes), blob});
  return blob;
}

absl::Status ExecutableWriter::Write(ExecutableHeader header, const std::string& path) {
  std::map<std::pair<std::uint64_t, std::string>, bool> named;
  for (const Added& added : blobs_) named[{added.blob.offset(), added.blob.sha256()}] = false;
  std::string unknown;
  ForEachBlob(header, [&](const std::string& name, Blob& blob) {
    const auto it = named.find({blob.offset(), blob.sha256()});
    if (it == named.end()) {
      unknown = name;
    } else {
      it->second = true;
    }
  });
  if (!unknown.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(unknown, " is a blob that was not added to this writer"));
  }
  for (const Added& added : blobs_) {
    if (!named[{added.blob.offset(), added.blob.sha256()}]) {
      return absl::InvalidArgumentError(absl::StrCat(
          "A blob of ", added.blob.size(), " bytes was added, but no field of the header names it"));
    }
  }
  TFIPU_RETURN_IF_ERROR(Validate(header));

  // Offsets are part of the header and grow with its size, so the place of the first blob is found by trying.
  std::uint64_t shift = 0;
  std::string bytes;
  for (std::uint64_t begin = kPageSize; shift != begin;) {
    ForEachBlob(header,
                [&](const std::string&, Blob& blob) { blob.set_offset(blob.offset() - shift + begin); });
    shift = begin;
    header.set_file_size(blobs_.empty() ? 0
                                        : begin + blobs_.back().blob.offset() + blobs_.back().bytes.size());
    bytes = Serialize(header);
    begin = std::max(begin, AlignUp(kPreambleSize + bytes.size(), kPageSize));
  }
  if (bytes.size() > kMaxHeaderSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("The header takes ", bytes.size(), " bytes, expected at most ", kMaxHeaderSize));
  }
  if (!ExecutableHeader().ParseFromString(bytes)) {
    return absl::InvalidArgumentError("The header holds a string that is not UTF-8");
  }

  TemporaryFile file(path);
  file.Append(MakePreamble(bytes));
  file.Append(bytes);
  std::uint64_t end = kPreambleSize + bytes.size();
  for (const Added& added : blobs_) {
    file.Append(std::string(shift + added.blob.offset() - end, '\0'));
    file.Append(added.bytes);
    end = shift + added.blob.offset() + added.bytes.size();
  }
  return file.Commit();
}

absl::Status WriteCopy(const Executable& executable, ExecutableHeader header, const std::string& path) {
  ExecutableWriter writer;
  ForEachBlob(header, [&](const std::string&, Blob& blob) {
    const ConstBuffer bytes = executable.blob(blob);
    blob = writer.AddBlob(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  });
  return writer.Write(std::move(header), path);
}

}  // namespace tfipu
