#include "cc/load/load_driver.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/base/status_macros.h"

namespace tfipu {
namespace {

using Clock = std::chrono::steady_clock;

// Buffers of calls in flight take at most so much memory, and there are at most so many.
constexpr std::size_t kOutfeedMemory = std::size_t{512} << 20;
constexpr std::size_t kMaxInFlight = 8192;

std::uint64_t Nanoseconds(Clock::duration duration) {
  return std::max<std::int64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count(), 0);
}

class Load {
 public:
  Load(Engine& engine, const LoadOptions& options) : engine_(engine), options_(options) {}

  absl::Status Prepare() {
    const ExecutableHeader& header = engine_.executable().header();
    if (options_.rate < 0 || options_.concurrency < 1 || options_.rows < 0 ||
        options_.duration <= absl::ZeroDuration() || options_.warm_up < absl::ZeroDuration()) {
      return absl::InvalidArgumentError(
          absl::StrCat("Found rate ", options_.rate, ", concurrency ", options_.concurrency, ", rows ",
                       options_.rows, ", duration ", absl::FormatDuration(options_.duration), ", warm-up ",
                       absl::FormatDuration(options_.warm_up),
                       "; expected none negative, concurrency and duration above 0"));
    }
    if (options_.rows > 0 && !header.dynamic_batch()) {
      return absl::InvalidArgumentError(
          absl::StrCat("Found ", options_.rows,
                       " rows a call, but the executable was exported without dynamic_batch: "
                       "a call is one compiled batch"));
    }
    const std::int64_t batch =
        header.dynamic_batch() && header.infeeds_size() > 0 ? header.infeeds(0).dims(0) : 1;
    rows_ = header.dynamic_batch() ? (options_.rows > 0 ? options_.rows : batch) : 0;
    const auto size_of = [&](const TensorSpec& spec) -> std::size_t {
      const std::size_t size = *TensorSize(spec);
      return rows_ > 0 ? size / batch * rows_ : size;
    };
    for (const TensorSpec& spec : header.infeeds()) {
      infeeds_.push_back(RandomTensor(spec.type(), size_of(spec), options_.seed + infeeds_.size()));
    }
    std::size_t outfeed_bytes = 1;
    for (const TensorSpec& spec : header.outfeeds()) {
      outfeed_sizes_.push_back(size_of(spec));
      outfeed_bytes += outfeed_sizes_.back();
    }
    in_flight_limit_ = std::clamp<std::size_t>(kOutfeedMemory / outfeed_bytes, 16, kMaxInFlight);
    return absl::OkStatus();
  }

  absl::StatusOr<LoadResult> Run(const std::function<bool(double)>& progress) {
    start_ = Clock::now();
    measured_from_ = start_ + absl::ToChronoNanoseconds(options_.warm_up);
    end_ = measured_from_ + absl::ToChronoNanoseconds(options_.duration);
    const bool finished = options_.rate > 0 ? OpenLoop(progress) : ClosedLoop(progress);

    std::unique_lock<std::mutex> lock(mutex_);
    stopping_ = true;
    changed_.wait(lock, [this] { return in_flight_ == 0; });
    if (!finished) return absl::CancelledError("The load was ended early.");
    LoadResult result;
    result.calls = calls_;
    result.failed = failed_;
    result.failure = failure_;
    result.latency = latency_.Read();
    result.seconds = std::chrono::duration<double>(last_answer_ - measured_from_).count();
    const EngineStatistics after = engine_.Statistics();
    result.steps = after.steps - before_.steps;
    result.dummy_steps = after.dummy_steps - before_.dummy_steps;
    result.rows = after.rows - before_.rows;
    result.padded_rows = after.padded_rows - before_.padded_rows;
    return result;
  }

 private:
  struct Slot {
    std::vector<AlignedBuffer> outfeeds;
    Clock::time_point due;
  };

  bool ClosedLoop(const std::function<bool(double)>& progress) {
    for (int i = 0; i < options_.concurrency; ++i) {
      Slot* slot = TakeSlot();
      Make(slot, Clock::now());
    }
    return Watch(progress);
  }

  // Until the time is over, or, in a closed loop, failures have ended all calls.
  bool Watch(const std::function<bool(double)>& progress) {
    bool measuring = false;
    for (;;) {
      const auto now = Clock::now();
      if (!measuring && now >= measured_from_) {
        before_ = engine_.Statistics();
        measuring = true;
      }
      if (now >= end_) return true;
      if (!Report(progress, now)) return false;
      std::unique_lock<std::mutex> lock(mutex_);
      const auto next = std::min({measuring ? end_ : measured_from_, end_, now + kReportInterval});
      changed_.wait_until(lock, next, [this] { return in_flight_ == 0; });
      if (in_flight_ == 0) return true;
    }
  }

  bool OpenLoop(const std::function<bool(double)>& progress) {
    // The default slack of 50 microseconds would be in every latency.
    prctl(PR_SET_TIMERSLACK, 1UL);
    std::mt19937_64 random(options_.seed);
    std::exponential_distribution<double> gap(options_.rate);
    bool measuring = false;
    auto reported = start_;
    auto due = start_;
    for (;;) {
      due += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(gap(random)));
      if (due >= end_) return true;
      for (auto now = Clock::now(); now < due || now - reported >= kReportInterval; now = Clock::now()) {
        if (now - reported >= kReportInterval) {
          reported = now;
          if (!Report(progress, now)) return false;
        }
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait_until(lock, std::min(due, reported + kReportInterval), [] { return false; });
      }
      if (!measuring && due >= measured_from_) {
        before_ = engine_.Statistics();
        measuring = true;
      }
      Make(TakeSlot(), due);
    }
  }

  bool Report(const std::function<bool(double)>& progress, Clock::time_point now) {
    if (progress == nullptr) return true;
    return progress(std::chrono::duration<double>(now - start_) /
                    std::chrono::duration<double>(end_ - start_));
  }

  // Waits while too many calls are in flight; what waits is late, and its latency says so.
  Slot* TakeSlot() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !free_.empty() || slots_.size() < in_flight_limit_; });
    ++in_flight_;
    if (!free_.empty()) {
      Slot* slot = free_.back();
      free_.pop_back();
      return slot;
    }
    slots_.push_back(std::make_unique<Slot>());
    for (std::size_t size : outfeed_sizes_) slots_.back()->outfeeds.emplace_back(size);
    return slots_.back().get();
  }

  void Make(Slot* slot, Clock::time_point due) {
    slot->due = due;
    Call call;
    call.rows = rows_;
    for (const AlignedBuffer& infeed : infeeds_) call.infeeds.emplace_back(infeed.data(), infeed.size());
    for (const AlignedBuffer& outfeed : slot->outfeeds) call.outfeeds.push_back(outfeed.span());
    call.done = [this, slot](absl::Status status) { Done(slot, std::move(status)); };
    engine_.Enqueue(std::move(call));
  }

  void Done(Slot* slot, absl::Status status) {
    const auto now = Clock::now();
    const bool ok = status.ok();
    if (ok && slot->due >= measured_from_) latency_.Add(Nanoseconds(now - slot->due));
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (slot->due >= measured_from_) {
        last_answer_ = now;
        ++(ok ? calls_ : failed_);
      }
      if (!ok && failure_.ok()) failure_ = std::move(status);
      // A failed call makes no other one: it may have failed inside of Make(), which would never end.
      if (options_.rate > 0 || stopping_ || !ok || now >= end_) {
        free_.push_back(slot);
        --in_flight_;
        changed_.notify_all();
        return;
      }
    }
    Make(slot, now);
  }

  static constexpr std::chrono::milliseconds kReportInterval{100};

  Engine& engine_;
  const LoadOptions options_;
  std::int64_t rows_ = 0;
  std::vector<AlignedBuffer> infeeds_;
  std::vector<std::size_t> outfeed_sizes_;
  std::size_t in_flight_limit_ = 0;
  Clock::time_point start_, measured_from_, end_;
  EngineStatistics before_;
  Histogram latency_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_;
  std::size_t in_flight_ = 0;
  bool stopping_ = false;
  std::uint64_t calls_ = 0;
  std::uint64_t failed_ = 0;
  absl::Status failure_;
  Clock::time_point last_answer_{};
};

}  // namespace

absl::StatusOr<LoadResult> DriveLoad(Engine& engine, const LoadOptions& options,
                                     const std::function<bool(double)>& progress) {
  Load load(engine, options);
  TFIPU_RETURN_IF_ERROR(load.Prepare());
  return load.Run(progress);
}

AlignedBuffer RandomTensor(ElementType type, std::size_t size, std::uint64_t seed) {
  AlignedBuffer buffer(size);
  std::memset(buffer.data(), 0, size);
  std::mt19937_64 random(seed);
  const auto fill = [&](auto next) {
    using Element = decltype(next());
    for (std::size_t at = 0; at + sizeof(Element) <= size; at += sizeof(Element)) {
      const Element element = next();
      std::memcpy(buffer.data() + at, &element, sizeof(element));
    }
  };
  const auto uniform = [&] { return static_cast<double>(random() >> 11) / (std::uint64_t{1} << 53); };
  switch (type) {
    case FLOAT32:
    case COMPLEX64:
      fill([&] { return static_cast<float>(uniform()); });
      break;
    case FLOAT64:
    case COMPLEX128:
      fill([&] { return uniform(); });
      break;
    case BFLOAT16:  // the upper half of a float
      fill([&] {
        const float value = static_cast<float>(uniform());
        std::uint32_t bits;
        std::memcpy(&bits, &value, sizeof(bits));
        return static_cast<std::uint16_t>(bits >> 16);
      });
      break;
    case FLOAT16:  // any fraction under exponent -1: 0.5 to 1
      fill([&] { return static_cast<std::uint16_t>(0x3800 | (random() & 0x3ff)); });
      break;
    default:
      break;
  }
  return buffer;
}

}  // namespace tfipu
