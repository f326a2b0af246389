#include "serving/monitoring/request_log.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "serving/core/log.h"
#include "tensorflow/core/lib/io/record_writer.h"
#include "tensorflow/core/lib/monitoring/counter.h"
#include "tensorflow/core/platform/env.h"

namespace tfipu::serving {
namespace {

using tensorflow::serving::PredictionLog;

struct Target {
  std::string prefix;
  tensorflow::serving::SamplingConfig sampling;
};

// A file that is being written.
class RecordFile {
 public:
  absl::Status Open(const std::string& prefix, int number) {
    const std::string path =
        absl::StrCat(prefix, "-", absl::FormatTime("%Y%m%d-%H%M%S", absl::Now(), absl::UTCTimeZone()), "-",
                     getpid(), "-", number, ".tfrecord");
    absl::Status status = tensorflow::Env::Default()->NewWritableFile(path, &file_);
    if (status.ok()) writer_ = std::make_unique<tensorflow::io::RecordWriter>(file_.get());
    return status;
  }
  absl::Status Write(const std::string& record) {
    bytes_ += record.size();
    return writer_->WriteRecord(record);
  }
  absl::Status Flush() {
    absl::Status status = writer_->Flush();
    if (status.ok()) status = file_->Flush();
    return status;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<tensorflow::WritableFile> file_;
  std::unique_ptr<tensorflow::io::RecordWriter> writer_;
  std::size_t bytes_ = 0;
};

tensorflow::monitoring::Counter<2>& Counts() {
  static auto* const counts = tensorflow::monitoring::Counter<2>::New(
      "/tensorflow/serving/request_log_count", "Requests logged, by model and outcome.", "model_name",
      "status_code");
  return *counts;
}

}  // namespace

class RequestLog::Impl {
 public:
  Impl() {
    Counts();  // so that the metric is there before the first record
    writer_ = std::thread([this] { Work(); });
    pthread_setname_np(writer_.native_handle(), "request-log");
  }

  ~Impl() {
    {
      absl::MutexLock lock(&mutex_);
      ending_ = true;
    }
    writer_.join();
  }

  void Configure(std::map<std::string, Target> targets) {
    absl::MutexLock lock(&mutex_);
    any_.store(!targets.empty(), std::memory_order_relaxed);
    targets_ = std::move(targets);
  }

  bool Wants(const ServableId& servable) {
    if (!any_.load(std::memory_order_relaxed)) return false;
    double rate = 0;
    {
      absl::MutexLock lock(&mutex_);
      const auto target = targets_.find(servable.name);
      if (target == targets_.end()) return false;
      rate = target->second.sampling.sampling_rate();
    }
    thread_local std::minstd_rand random{std::random_device{}()};
    return std::uniform_real_distribution<double>(0, 1)(random) < rate;
  }

  void Add(const ServableId& servable, PredictionLog& log) {
    absl::MutexLock lock(&mutex_);
    const auto target = targets_.find(servable.name);
    if (target == targets_.end()) return;
    auto* const metadata = log.mutable_log_metadata();
    metadata->mutable_model_spec()->set_name(servable.name);
    metadata->mutable_model_spec()->mutable_version()->set_value(servable.version);
    metadata->set_timestamp_secs(absl::ToUnixSeconds(absl::Now()));
    *metadata->mutable_sampling_config() = target->second.sampling;
    std::string record;
    if (waiting_bytes_ > kMaxWaitingBytes || !log.SerializeToString(&record)) {
      Counts().GetCell(servable.name, "RESOURCE_EXHAUSTED")->IncrementBy(1);
      return;
    }
    waiting_bytes_ += record.size();
    waiting_.push_back({servable.name, target->second.prefix, std::move(record)});
  }

 private:
  struct Waiting {
    std::string model, prefix, record;
  };

  void Work() {
    while (true) {
      std::deque<Waiting> batch;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(
            +[](Impl* self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mutex_) {
              return self->ending_ || !self->waiting_.empty();
            },
            this));
        if (waiting_.empty()) return;
        batch.swap(waiting_);
        waiting_bytes_ = 0;
      }
      for (const Waiting& waiting : batch) {
        const absl::Status status = Write(waiting);
        Counts().GetCell(waiting.model, absl::StatusCodeToString(status.code()))->IncrementBy(1);
      }
      for (auto& [prefix, file] : files_) {
        if (file != nullptr) file->Flush().IgnoreError();
      }
    }
  }

  absl::Status Write(const Waiting& waiting) {
    std::unique_ptr<RecordFile>& file = files_[waiting.prefix];
    absl::Status status;
    if (file == nullptr || file->bytes() > kMaxFileBytes) {
      file = std::make_unique<RecordFile>();
      status = file->Open(waiting.prefix, number_++);
    }
    if (status.ok()) status = file->Write(waiting.record);
    if (status.ok()) {
      complained_ = false;
      return status;
    }
    if (!complained_) LogError("Cannot log requests of model ", waiting.model, ": ", status.message());
    complained_ = true;
    file = nullptr;
    return status;
  }

  std::atomic<bool> any_{false};
  absl::Mutex mutex_;
  std::map<std::string, Target> targets_ ABSL_GUARDED_BY(mutex_);
  std::deque<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  std::size_t waiting_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  // The writer's own.
  std::map<std::string, std::unique_ptr<RecordFile>> files_;
  int number_ = 0;
  bool complained_ = false;
  std::thread writer_;
};

RequestLog::RequestLog() : impl_(std::make_unique<Impl>()) {}
RequestLog::~RequestLog() = default;

absl::Status RequestLog::Check(const std::vector<ConfiguredModel>& models) {
  for (const ConfiguredModel& model : models) {
    const auto& collector = model.logging.log_collector_config();
    const auto& sampling = model.logging.sampling_config();
    const auto wrong = [&](absl::string_view what) {
      return absl::InvalidArgumentError(
          absl::StrCat("Model ", model.watched.name, ": logging_config: ", what));
    };
    if (!(sampling.sampling_rate() >= 0 && sampling.sampling_rate() <= 1)) {
      return wrong(absl::StrCat("found sampling_rate ", sampling.sampling_rate(), ", expected 0 to 1."));
    }
    for (const auto& [unknown, found] : std::initializer_list<std::pair<absl::string_view, bool>>{
             {"per_task_sampling_configs", sampling.per_task_sampling_configs_size() > 0},
             {"custom_logging_config", model.logging.has_custom_logging_config()}}) {
      if (!found) continue;
      return wrong(
          absl::StrCat("found ", unknown, ", which this server does not know; expected sampling_rate."));
    }
    if (!collector.type().empty() && collector.type() != "tfrecord") {
      return wrong(absl::StrCat("found log_collector_config of type \"", collector.type(),
                                "\", expected \"tfrecord\"."));
    }
    if (sampling.sampling_rate() > 0 && collector.filename_prefix().empty()) {
      return wrong("found a sampling_rate but no filename_prefix in log_collector_config.");
    }
  }
  return absl::OkStatus();
}

void RequestLog::Configure(const std::vector<ConfiguredModel>& models) {
  std::map<std::string, Target> targets;
  for (const ConfiguredModel& model : models) {
    const auto& sampling = model.logging.sampling_config();
    if (sampling.sampling_rate() > 0) {
      targets[model.watched.name] = {model.logging.log_collector_config().filename_prefix(), sampling};
    }
  }
  impl_->Configure(std::move(targets));
}

bool RequestLog::Wants(const ServableId& servable) const { return impl_->Wants(servable); }

void RequestLog::Add(const ServableId& servable, std::unique_ptr<PredictionLog> log) {
  impl_->Add(servable, *log);
}

}  // namespace tfipu::serving
