#include "serving/sources/file_system_source.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cc/base/local_file.h"
#include "serving/core/log.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/platform/path.h"

namespace tfipu::serving {
namespace {

// Appends sizes and times of a file, or of a folder's files, two levels deep: what a copy in progress or a
// repair changes. Hidden files are none of a model's, but the folder shows that they were renamed.
void AppendStamp(const std::string& path, bool with_folders, int depth, std::string* stamp) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return stamp->push_back('-');
  if (with_folders || !S_ISDIR(info.st_mode)) {
    absl::StrAppend(stamp, info.st_ino, ".", info.st_size, ".", info.st_mtim.tv_sec, ".",
                    info.st_mtim.tv_nsec, ";");
  }
  if (!S_ISDIR(info.st_mode) || depth > 1) return;
  DIR* const folder = opendir(path.c_str());
  if (folder == nullptr) return;
  std::vector<std::string> names;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] != '.') names.push_back(entry->d_name);
  }
  closedir(folder);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    absl::StrAppend(stamp, name, ":");
    AppendStamp(absl::StrCat(path, "/", name), with_folders, depth + 1, stamp);
  }
}

// Only the local file system is asked.
std::string StampOf(const std::string& path) {
  std::string stamp;
  if (!IsRemotePath(path)) AppendStamp(path, /*with_folders=*/true, 0, &stamp);
  return stamp;
}

// Of a version's files that can be read but be cut without a sign of it.
std::string ContentsOf(const std::string& path) {
  std::string stamp;
  if (IsRemotePath(path)) return stamp;
  for (const char* const name : {"assets", "batching_params.pbtxt"}) {
    AppendStamp(absl::StrCat(path, "/", name), /*with_folders=*/false, 0, &stamp);
  }
  return stamp;
}

bool IsVersionNumber(absl::string_view name, std::int64_t* number) {
  return !name.empty() && std::all_of(name.begin(), name.end(), absl::ascii_isdigit) &&
         absl::SimpleAtoi(name, number);
}

}  // namespace

bool WatchedModel::operator==(const WatchedModel& other) const {
  return name == other.name && base_path == other.base_path && policy.kind == other.policy.kind &&
         policy.count == other.policy.count && policy.versions == other.policy.versions;
}

FileSystemSource::FileSystemSource(absl::Duration poll_interval, Sink sink)
    : poll_interval_(poll_interval), sink_(std::move(sink)) {
  if (poll_interval_ <= absl::ZeroDuration()) return;
  poller_ = std::make_unique<PeriodicThread>("poll-models", poll_interval_, [this] { Poll(); });
}

FileSystemSource::~FileSystemSource() = default;

void FileSystemSource::Stop() {
  if (poller_ != nullptr) poller_->Stop();
}

void FileSystemSource::Watch(std::vector<WatchedModel> models, bool look) {
  absl::MutexLock lock(&mutex_);
  std::map<std::string, Watched> watched;
  for (WatchedModel& model : models) {
    const auto before = watched_.find(model.name);
    Watched& entry = watched[model.name];
    if (before != watched_.end()) {
      if (before->second.model == model) {
        entry = std::move(before->second);
      } else {
        entry.had_versions = before->second.had_versions;
      }
      watched_.erase(before);
    }
    entry.model = std::move(model);
  }
  for (const auto& [name, _] : watched_) sink_(name, {}, {});
  watched_ = std::move(watched);
  if (!look) return;
  for (auto& [_, entry] : watched_) Look(entry);
}

void FileSystemSource::Poll() {
  absl::MutexLock lock(&mutex_);
  for (auto& [_, entry] : watched_) Look(entry);
}

bool FileSystemSource::FindVersions(Watched& watched, std::map<std::int64_t, std::string>* folders) {
  const WatchedModel& model = watched.model;
  std::vector<std::string> names;
  const absl::Status status = tensorflow::Env::Default()->GetChildren(model.base_path, &names);
  if (!status.ok()) {
    Complain(watched, absl::StrCat("Model ", model.name, ": cannot read its base path ", model.base_path,
                                   " (", status.message(), "); waiting for it."));
    return false;
  }
  // Some file systems list folders with a slash at the end.
  for (std::string& name : names) name.resize(std::min(name.size(), name.find('/')));
  std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return std::make_pair(a.size(), absl::string_view(a)) < std::make_pair(b.size(), absl::string_view(b));
  });
  for (const std::string& name : names) {
    std::int64_t number;
    if (!IsVersionNumber(name, &number)) continue;
    const std::string path = tensorflow::io::JoinPath(model.base_path, name);
    if (!tensorflow::Env::Default()->IsDirectory(path).ok()) continue;
    const auto [place, is_first] = folders->emplace(number, name);
    if (!is_first && watched.ignored_folders.insert(name).second) {
      LogWarning("Model ", model.name, ": the folders ", place->second, " and ", name, " in ",
                 model.base_path, " are duplicates of version ", number, ": ", place->second, " is served, ",
                 name, " is ignored.");
    }
  }
  return true;
}

void FileSystemSource::CheckChosen(Watched& watched, const std::map<std::int64_t, std::string>& folders,
                                   const std::vector<std::int64_t>& chosen) {
  const WatchedModel& model = watched.model;
  const bool specific = model.policy.kind == VersionPolicy::Kind::kSpecific;
  if (chosen.empty() && specific && !folders.empty()) {
    return Complain(watched, absl::StrCat("Model ", model.name, ": none of the versions ",
                                          absl::StrJoin(model.policy.versions, ", "),
                                          " that its policy names is in ", model.base_path, "."));
  }
  if (chosen.empty()) {
    return Complain(watched,
                    absl::StrCat("Model ", model.name, ": no version (a folder named by a number) is in ",
                                 model.base_path, "."));
  }
  std::vector<std::int64_t> missing;
  for (const std::int64_t number : model.policy.versions) {
    if (folders.count(number) == 0) missing.push_back(number);
  }
  if (specific && !missing.empty()) {
    return Complain(watched, absl::StrCat("Model ", model.name, ": version ", absl::StrJoin(missing, ", "),
                                          ", which its policy names, is not in ", model.base_path, "."));
  }
  watched.complaint.clear();
}

VersionSource FileSystemSource::SourceOf(Watched& watched, std::int64_t number, const std::string& folder) {
  VersionSource version;
  version.id = {watched.model.name, number};
  version.path = tensorflow::io::JoinPath(watched.model.base_path, folder);
  version.stamp = StampOf(version.path);
  const std::string now = ContentsOf(version.path);
  const auto [known, is_new] = watched.contents.emplace(number, Contents{now, now});
  Contents& contents = known->second;
  if (contents.seen == now) contents.told = now;
  contents.seen = now;
  version.contents = contents.told;
  return version;
}

void FileSystemSource::Look(Watched& watched) {
  std::map<std::int64_t, std::string> folders;
  if (!FindVersions(watched, &folders)) return;
  std::set<std::int64_t> numbers;
  for (const auto& [number, _] : folders) numbers.insert(number);
  const std::vector<std::int64_t> chosen = watched.model.policy.Choose(numbers);
  CheckChosen(watched, folders, chosen);
  if (chosen.empty() && watched.had_versions && ++watched.empty_looks < 2) return;
  if (!chosen.empty()) {
    watched.had_versions = true;
    watched.empty_looks = 0;
  }
  std::vector<VersionSource> versions, spares;
  for (const std::int64_t number : chosen) {
    versions.push_back(SourceOf(watched, number, folders[number]));
    numbers.erase(number);
  }
  if (watched.model.policy.kind == VersionPolicy::Kind::kLatest) {
    for (auto number = numbers.rbegin(); number != numbers.rend() && spares.size() < kSpares; ++number) {
      spares.push_back(SourceOf(watched, *number, folders[*number]));
    }
  }
  for (auto known = watched.contents.begin(); known != watched.contents.end();) {
    known = folders.count(known->first) > 0 ? std::next(known) : watched.contents.erase(known);
  }
  sink_(watched.model.name, std::move(versions), std::move(spares));
}

void FileSystemSource::Complain(Watched& watched, std::string complaint) {
  if (watched.complaint == complaint) return;
  LogWarning(complaint);
  watched.complaint = std::move(complaint);
}

}  // namespace tfipu::serving
