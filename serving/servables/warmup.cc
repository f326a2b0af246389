#include "serving/servables/warmup.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cc/base/status_macros.h"
#include "tensorflow/core/lib/io/record_reader.h"
#include "tensorflow/core/lib/monitoring/sampler.h"
#include "tensorflow/core/platform/env.h"
#include "tensorflow/core/platform/path.h"

namespace tfipu::serving {
namespace {

tensorflow::monitoring::Sampler<2>& Latency() {
  static auto* const latency = tensorflow::monitoring::Sampler<2>::New(
      {"/tensorflow/serving/model_warmup_latency", "Time that warm-ups took in microseconds.", "model_path",
       "status"},
      tensorflow::monitoring::Buckets::Exponential(10, 1.8, 33));
  return *latency;
}

absl::Status ReplayAll(const Servable& servable, const std::string& file,
                       tensorflow::RandomAccessFile* source, int iterations, const Replay& replay) {
  tensorflow::io::SequentialRecordReader reader(source);
  tensorflow::tstring bytes;
  for (int number = 1;; ++number) {
    absl::Status status = reader.ReadRecord(&bytes);
    if (absl::IsOutOfRange(status)) return absl::OkStatus();
    if (status.ok() && number > kMaxWarmupRecords) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, " has more than the ", kMaxWarmupRecords, " records that a warm-up may have."));
    }
    tensorflow::serving::PredictionLog log;
    if (status.ok() && !log.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
      status = absl::InvalidArgumentError("it is not a PredictionLog");
    }
    for (int i = 0; status.ok() && i < iterations; ++i) status = replay(servable, log);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("Warm-up record ", number, " of ", file, ": ", status.message()));
    }
  }
}

}  // namespace

absl::Status WarmUp(const Servable& servable, const std::string& path, int iterations, const Replay& replay) {
  const std::string file = tensorflow::io::JoinPath(path, "assets.extra", "tf_serving_warmup_requests");
  tensorflow::Env* const env = tensorflow::Env::Default();
  if (!env->FileExists(file).ok()) return absl::OkStatus();
  std::unique_ptr<tensorflow::RandomAccessFile> source;
  TFIPU_RETURN_IF_ERROR(env->NewRandomAccessFile(file, &source));
  const absl::Time start = absl::Now();
  const absl::Status status = ReplayAll(servable, file, source.get(), iterations, replay);
  Latency()
      .GetCell(path, absl::StatusCodeToString(status.code()))
      ->Add(absl::ToDoubleMicroseconds(absl::Now() - start));
  return status;
}

}  // namespace tfipu::serving
