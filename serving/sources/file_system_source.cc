#include "serving/sources/file_system_source.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "serving/core/log.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/platform/path.h"

namespace tfipu::serving {
namespace {

// Sizes and times of the files of a version, two levels deep: what a copy in progress or a repair changes.
// Only the local file system is asked for them.
std::string StampOf(const std::string& path, int depth = 0) {
  if (absl::StrContains(path, "://")) return "";
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return "gone";
  std::string stamp = absl::StrCat(info.st_size, ".", info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec, ";");
  if (!S_ISDIR(info.st_mode) || depth > 1) return stamp;
  DIR* folder = opendir(path.c_str());
  if (folder == nullptr) return stamp;
  std::vector<std::string> names;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] != '.') names.push_back(entry->d_name);
  }
  closedir(folder);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names)
    absl::StrAppend(&stamp, StampOf(absl::StrCat(path, "/", name), depth + 1));
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
  poller_ = std::thread([this] {
    while (true) {
      {
        absl::MutexLock lock(&stop_mutex_);
        if (stop_mutex_.AwaitWithTimeout(absl::Condition(&stopped_), poll_interval_)) return;
      }
      Poll();
    }
  });
  pthread_setname_np(poller_.native_handle(), "poll-models");
}

FileSystemSource::~FileSystemSource() {
  {
    absl::MutexLock lock(&stop_mutex_);
    stopped_ = true;
  }
  if (poller_.joinable()) poller_.join();
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
  for (const auto& [name, _] : watched_) sink_(name, {});
  watched_ = std::move(watched);
  if (!look) return;
  for (auto& [_, entry] : watched_) Look(entry);
}

void FileSystemSource::Poll() {
  absl::MutexLock lock(&mutex_);
  for (auto& [_, entry] : watched_) Look(entry);
}

void FileSystemSource::Look(Watched& watched) {
  const WatchedModel& model = watched.model;
  std::vector<std::string> names;
  const absl::Status status = tensorflow::Env::Default()->GetChildren(model.base_path, &names);
  if (!status.ok()) {
    Complain(watched, absl::StrCat("Model ", model.name, ": cannot read its base path ", model.base_path,
                                   " (", status.message(), "); waiting for it."));
    return;
  }
  std::sort(names.begin(), names.end());
  std::map<std::int64_t, std::string> folders;
  for (const std::string& name : names) {
    std::int64_t number;
    // Some file systems list folders with a slash at the end.
    const absl::string_view bare = absl::string_view(name).substr(0, name.find('/'));
    if (!IsVersionNumber(bare, &number)) continue;
    const std::string path = tensorflow::io::JoinPath(model.base_path, bare);
    if (!tensorflow::Env::Default()->IsDirectory(path).ok()) continue;
    folders.emplace(number, path);
  }
  std::set<std::int64_t> numbers;
  for (const auto& [number, _] : folders) numbers.insert(number);
  const std::vector<std::int64_t> chosen = model.policy.Choose(numbers);
  if (chosen.empty()) {
    if (model.policy.kind == VersionPolicy::Kind::kSpecific && !folders.empty()) {
      Complain(watched, absl::StrCat("Model ", model.name, ": none of the versions ",
                                     absl::StrJoin(model.policy.versions, ", "),
                                     " that its policy names is in ", model.base_path, "."));
    } else {
      Complain(watched, absl::StrCat("Model ", model.name, ": no version (a folder named by a number) is in ",
                                     model.base_path, "."));
    }
    if (watched.had_versions && ++watched.empty_looks < 2) return;
  } else {
    std::vector<std::int64_t> missing;
    for (const std::int64_t number : model.policy.versions) {
      if (folders.count(number) == 0) missing.push_back(number);
    }
    if (model.policy.kind == VersionPolicy::Kind::kSpecific && !missing.empty()) {
      Complain(watched, absl::StrCat("Model ", model.name, ": version ", absl::StrJoin(missing, ", "),
                                     ", which its policy names, is not in ", model.base_path, "."));
    } else {
      watched.complaint.clear();
    }
    watched.had_versions = true;
    watched.empty_looks = 0;
  }
  std::vector<VersionSource> versions;
  for (const std::int64_t number : chosen) {
    VersionSource version;
    version.id = {model.name, number};
    version.path = folders[number];
    version.stamp = StampOf(version.path);
    versions.push_back(std::move(version));
  }
  sink_(model.name, std::move(versions));
}

void FileSystemSource::Complain(Watched& watched, std::string complaint) {
  if (watched.complaint == complaint) return;
  LogWarning(complaint);
  watched.complaint = std::move(complaint);
}

}  // namespace tfipu::serving
