#include "cc/executable/executable.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "cc/base/local_file.h"
#include "cc/base/sha256.h"
#include "cc/base/status_macros.h"
#include "cc/executable/format.h"
#include "cc/executable/validate.h"

namespace tfipu {
namespace {

// Read and hashed piece by piece, so that the bytes are hashed while they are in the CPU's cache.
constexpr std::uint64_t kPieceSize = 256 * 1024;

// Fewer bytes than this are verified before a second thread would have started.
constexpr std::uint64_t kParallelSize = 4 << 20;
constexpr unsigned kMaxThreads = 8;

constexpr std::uint64_t kHugePageSize = 2 << 20;

class File {
 public:
  explicit File(const std::string& path)
      // Without O_NONBLOCK opening a FIFO waits for a writer.
      : descriptor_(open(LocalPath(path).c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)) {}
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int descriptor() const { return descriptor_; }

 private:
  const int descriptor_;
};

absl::Status ReadAt(int descriptor, std::uint64_t offset, std::uint64_t size, void* to) {
  auto* position = static_cast<char*>(to);
  while (size > 0) {
    const ssize_t got = pread(descriptor, position, size, static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot read at offset ", offset));
    }
    if (got == 0) {
      return absl::DataLossError(absl::StrCat("the file ended at offset ", offset, ", expected ", size,
                                              " more bytes: ", "it became shorter while it was read"));
    }
    position += got;
    offset += got;
    size -= got;
  }
  return absl::OkStatus();
}

bool AllZero(const std::byte* bytes, std::uint64_t size) {
  return std::all_of(bytes, bytes + size, [](std::byte byte) { return byte == std::byte{0}; });
}

// Reads one extent to its place in `bytes` and verifies it.
absl::Status ReadExtent(int descriptor, const Extent& extent, std::byte* bytes) {
  Sha256 hash;
  for (std::uint64_t done = 0; done < extent.size;) {
    const std::uint64_t offset = extent.offset + done;
    const std::uint64_t size = std::min(kPieceSize, extent.size - done);
    TFIPU_RETURN_IF_ERROR(ReadAt(descriptor, offset, size, bytes + offset));
    if (extent.blob != nullptr) {
      hash.Update(ConstBuffer(bytes + offset, size));
    } else if (!AllZero(bytes + offset, size)) {
      return absl::DataLossError(absl::StrCat("found bytes that belong to nothing between offsets ",
                                              extent.offset, " and ", extent.offset + extent.size,
                                              ", expected zeros"));
    }
    done += size;
  }
  if (extent.blob == nullptr) return absl::OkStatus();
  const std::string found = hash.Finish();
  if (found == extent.blob->sha256()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the ", extent.size, " bytes at offset ", extent.offset,
                                          " are damaged: found SHA-256 ", absl::BytesToHexString(found),
                                          ", expected ", absl::BytesToHexString(extent.blob->sha256())));
}

absl::Status ReadExtents(int descriptor, const std::vector<Extent>& extents, std::byte* bytes) {
  std::uint64_t total = 0;
  for (const Extent& extent : extents) total += extent.size;

  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::size_t failed_at = extents.size();
  absl::Status failure;
  const auto work = [&] {
    for (std::size_t i; (i = next.fetch_add(1)) < extents.size();) {
      absl::Status status = ReadExtent(descriptor, extents[i], bytes);
      if (status.ok()) continue;
      next.store(extents.size());
      // The first damage in the file, whichever thread sees one first.
      std::lock_guard<std::mutex> lock(mutex);
      if (i < failed_at) {
        failed_at = i;
        failure = std::move(status);
      }
    }
  };

  std::vector<std::thread> threads;
  threads.reserve(kMaxThreads);
  if (total >= kParallelSize) {
    const unsigned wanted =
        std::min({std::thread::hardware_concurrency(), kMaxThreads,
                  static_cast<unsigned>(std::min<std::size_t>(extents.size(), kMaxThreads))});
    try {
      while (threads.size() + 1 < wanted) threads.emplace_back(work);
    } catch (const std::exception&) {
      // The system gives no more threads, or no memory for them: those there are do the work.
    }
  }
  work();
  for (std::thread& thread : threads) thread.join();
  return failure;
}

// What tells that a file is the one that was read, and as it was.
using FileKey = std::tuple<dev_t, ino_t, off_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;

FileKey KeyOf(const struct stat& info) {
  return {info.st_dev,          info.st_ino,         info.st_size,        info.st_mtim.tv_sec,
          info.st_mtim.tv_nsec, info.st_ctim.tv_sec, info.st_ctim.tv_nsec};
}

struct Opened {
  std::mutex mutex;
  std::map<FileKey, std::weak_ptr<const Executable>> executables;

  static Opened& Instance() {
    static Opened* const opened = new Opened;
    return *opened;
  }

  std::shared_ptr<const Executable> Find(const FileKey& key) {
    std::lock_guard<std::mutex> lock(mutex);
    for (auto it = executables.begin(); it != executables.end();) {
      it = it->second.expired() ? executables.erase(it) : std::next(it);
    }
    const auto found = executables.find(key);
    return found == executables.end() ? nullptr : found->second.lock();
  }

  void Add(const FileKey& key, const std::shared_ptr<const Executable>& executable) {
    std::lock_guard<std::mutex> lock(mutex);
    executables[key] = executable;
  }
};

}  // namespace

class Executable::Reader {
 public:
  static absl::StatusOr<std::shared_ptr<const Executable>> Read(const std::string& path) {
    const File file(path);
    if (file.descriptor() < 0) return absl::ErrnoToStatus(errno, "cannot open it");
    struct stat info;
    if (fstat(file.descriptor(), &info) != 0) return absl::ErrnoToStatus(errno, "cannot stat it");
    if (!S_ISREG(info.st_mode)) {
      return absl::DataLossError(absl::StrCat("it is ", FileKind(info.st_mode), ", not a regular file"));
    }
    const FileKey key = KeyOf(info);
    if (auto opened = Opened::Instance().Find(key)) return opened;

    std::shared_ptr<Executable> executable(new Executable);
    executable->path_ = path;
    TFIPU_RETURN_IF_ERROR(ReadFile(file.descriptor(), static_cast<std::uint64_t>(info.st_size), *executable));
    Opened::Instance().Add(key, executable);
    return executable;
  }

 private:
  static absl::Status ReadFile(int descriptor, std::uint64_t size, Executable& executable) {
    if (size < kPreambleSize) {
      return absl::DataLossError(absl::StrCat("it is cut short or not an executable: found ", size,
                                              " bytes, expected at least ", kPreambleSize));
    }
    std::string preamble(kPreambleSize, '\0');
    TFIPU_RETURN_IF_ERROR(ReadAt(descriptor, 0, kPreambleSize, preamble.data()));
    TFIPU_ASSIGN_OR_RETURN(const std::uint64_t header_size, ParsePreamble(preamble));
    const std::uint64_t header_end = kPreambleSize + header_size;
    if (header_end > size) {
      return absl::DataLossError(absl::StrCat("it is cut short: found ", size, " bytes, expected at least ",
                                              header_end, " to hold its header"));
    }
    std::string bytes(header_size, '\0');
    TFIPU_RETURN_IF_ERROR(ReadAt(descriptor, kPreambleSize, header_size, bytes.data()));
    const std::string digest = HeaderDigest(preamble, bytes);
    const std::string expected = preamble.substr(kPreambleSize - Sha256::kSize);
    if (digest != expected) {
      return absl::DataLossError(absl::StrCat("its header is damaged: found SHA-256 ",
                                              absl::BytesToHexString(digest), ", expected ",
                                              absl::BytesToHexString(expected)));
    }
    executable.digest_ = absl::BytesToHexString(digest);

    ExecutableHeader& header = executable.header_;
    if (!header.ParseFromString(bytes)) {
      return absl::DataLossError("its header has a good checksum but is no ExecutableHeader");
    }
    if (header.file_size() != size) {
      return absl::DataLossError(
          absl::StrCat(header.file_size() > size ? "it is cut short" : "something was appended", ": found ",
                       size, " bytes, expected ", header.file_size()));
    }
    if (absl::Status status = Validate(header); !status.ok()) return BadHeader(status);
    const absl::StatusOr<std::vector<Extent>> extents = Layout(header, header_end);
    if (!extents.ok()) return BadHeader(extents.status());

    TFIPU_RETURN_IF_ERROR(Allocate(size, executable));
    std::memcpy(executable.bytes_, preamble.data(), preamble.size());
    std::memcpy(executable.bytes_ + kPreambleSize, bytes.data(), bytes.size());
    TFIPU_RETURN_IF_ERROR(ReadExtents(descriptor, *extents, executable.bytes_));
    mprotect(executable.bytes_, executable.size_, PROT_READ);
    return absl::OkStatus();
  }

  static absl::Status BadHeader(const absl::Status& status) {
    return absl::DataLossError(absl::StrCat("its header contradicts itself: ", status.message()));
  }

  // Fresh pages; huge ones where the system has them, which halves the time to read and spares TLB misses
  // later.
  static absl::Status Allocate(std::uint64_t size, Executable& executable) {
    void* bytes = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED) {
      return absl::ResourceExhaustedError(absl::StrCat("no memory for its ", size, " bytes"));
    }
    if (size >= kHugePageSize) madvise(bytes, size, MADV_HUGEPAGE);
    executable.bytes_ = static_cast<std::byte*>(bytes);
    executable.size_ = size;
    return absl::OkStatus();
  }
};

absl::StatusOr<std::shared_ptr<const Executable>> Executable::Open(const std::string& path) {
  auto executable = Reader::Read(path);
  if (executable.ok()) return executable;
  return absl::Status(executable.status().code(),
                      absl::StrCat("Cannot use executable '", path, "': ", executable.status().message()));
}

Executable::~Executable() {
  if (bytes_ != nullptr) munmap(bytes_, size_);
}

ConstBuffer Executable::blob(const Blob& blob) const {
  if (blob.offset() > size_ || blob.size() > size_ - blob.offset()) return {};
  return {bytes_ + blob.offset(), blob.size()};
}

}  // namespace tfipu
