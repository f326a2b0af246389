#include "serving/batching/batching_servable.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "cc/base/deadline_watcher.h"
#include "cc/base/status_macros.h"
#include "serving/batching/batch_queues.h"
#include "serving/batching/rows.h"
#include "serving/compute/guarded.h"
#include "serving/compute/round.h"
#include "xla/tsl/lib/monitoring/counter.h"
#include "xla/tsl/lib/monitoring/sampler.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;

// What dashboards for TensorFlow Serving read of its batching. Its label names a thread pool, of which there
// are none here. Statistics by model and signature are in SignatureStatistics.
auto* const queuing_latency = tsl::monitoring::Sampler<1>::New(
    {"/tensorflow/serving/batching_session/queuing_latency",
     "Time that a request waited for its batch in microseconds.", "thread_pool_name"},
    // From 100 us to a second, as there.
    tsl::monitoring::Buckets::Exponential(100, 1.2, 52));
auto* const wrapped_run_count = tsl::monitoring::Counter<0>::New(
    "/tensorflow/serving/batching_session/wrapped_run_count", "Batches that were run.");

// How often calls that wait are asked whether they are still wanted.
constexpr std::chrono::milliseconds kAskGivenUp{50};

// The queues that this thread takes batches from: batches that end while it does are not followed by others
// from within.
thread_local const Queues* dispatching = nullptr;

bool OpenFirstDimension(const std::vector<SignatureTensor>& tensors, bool unknown_rank) {
  return std::all_of(tensors.begin(), tensors.end(), [&](const SignatureTensor& tensor) {
    if (tensor.shape.unknown_rank()) return unknown_rank;
    return tensor.shape.dims() > 0 && tensor.shape.dim_size(0) < 0;
  });
}

// Whether a part of something that is started again and again ends while it is started, in the same thread or
// another, so that starting the next is done in a loop and not within the end of the one before.
class StartOrEnd {
 public:
  // Called after starting, and at the end. True for the second of the two, which goes on.
  bool Second() { return one_done_.exchange(true); }

 private:
  std::atomic<bool> one_done_{false};
};

// The queues of a servable and what runs their batches. Shared by the servable and its batches: the last
// answer of a batch may end the servable.
class Batcher : public std::enable_shared_from_this<Batcher> {
 public:
  Batcher(std::unique_ptr<const Servable> servable, const BatchingOptions& options)
      : servable_(std::move(servable)),
        options_(options),
        limit_(options.num_batch_threads > 0 ? options.num_batch_threads
                                             : std::max(1u, std::thread::hardware_concurrency())),
        queues_(servable_->signatures().size()) {
    for (const auto& [_, signature] : servable_->signatures()) {
      Queues& queues = queues_[signature.index];
      absl::MutexLock lock(&queues.mutex);
      queues.batched = !signature.inputs.empty() &&
                       OpenFirstDimension(signature.inputs, /*unknown_rank=*/false) &&
                       OpenFirstDimension(signature.outputs, /*unknown_rank=*/true);
    }
  }

  const Servable& servable() const { return *servable_; }

  void Start(ServableCall call, CallDone done) const {
    Queues& queues = queues_[call.signature->index];
    const std::int64_t rows = Rows(call);
    bool batched;
    {
      absl::MutexLock lock(&queues.mutex);
      batched = queues.batched && rows >= 0;
    }
    // Whatever cannot be batched is left to the servable, which also knows what to say of it.
    if (!batched) return servable_->Start(std::move(call), std::move(done));
    if (rows > options_.max_batch_size && !options_.enable_large_batch_splitting) {
      return done(absl::InvalidArgumentError(absl::StrCat(
          "Task size ", rows, " is larger than maximum input batch size ", options_.max_batch_size)));
    }
    if (rows > options_.execution_limit()) {
      auto parts = std::make_shared<Parts>();
      parts->call = std::move(call);
      parts->done = std::move(done);
      parts->rows = rows;
      return RunParts(parts);
    }
    auto task = std::make_unique<Task>();
    task->call = std::move(call);
    task->done = std::move(done);
    task->rows = rows;
    task->enqueued = absl::Now();
    Enqueue(queues, std::move(task));
  }

 private:
  // Rows of a call, or -1 when its inputs are none that can be batched.
  static std::int64_t Rows(const ServableCall& call) {
    const Signature& signature = *call.signature;
    const std::vector<Tensor>& inputs = call.inputs;
    if (inputs.size() != signature.inputs.size()) return -1;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].dims() == 0 || inputs[i].dim_size(0) != inputs[0].dim_size(0)) return -1;
      if (inputs[i].dtype() != signature.inputs[i].dtype) return -1;
      if (!signature.inputs[i].shape.IsCompatibleWith(inputs[i].shape())) return -1;
    }
    return inputs[0].dim_size(0) == 0 ? -1 : inputs[0].dim_size(0);
  }

  bool Joins(const Group& group, const ServableCall& call) const {
    const ServableCall& other = group.waiting.front()->call;
    if (other.outputs != call.outputs) return false;
    const std::vector<Tensor>& inputs = call.inputs;
    const std::vector<Tensor>& others = other.inputs;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (options_.pad_variable_length_inputs ? others[i].dims() != inputs[i].dims()
                                              : !SameRowShape(others[i], inputs[i])) {
        return false;
      }
    }
    return true;
  }

  void Enqueue(Queues& queues, std::unique_ptr<Task> task) const {
    std::optional<absl::Status> refused;
    {
      absl::MutexLock lock(&queues.mutex);
      // What finds a place at once does not wait. Divided, as the product of two such numbers may be none.
      const bool place = queues.running < limit_ && queues.groups.empty();
      const std::int64_t batches = (queues.waiting_rows + task->rows - 1) / options_.max_batch_size;
      if (!place && batches - FreePlaces(queues) >= options_.max_enqueued_batches) {
        refused = absl::UnavailableError(absl::StrCat("The batching queue of signature \"",
                                                      task->call.signature->name,
                                                      "\" is full: ", queues.waiting_rows, " rows wait."));
      } else {
        Push(queues, std::move(task));
      }
    }
    if (refused.has_value()) return task->done(*std::move(refused));
    if (compute::Round* const round = compute::Round::Current()) {
      // Calls that come together are run together.
      if (round->Has(&queues)) return;
      return round->AtEnd(&queues, [self = shared_from_this(), &queues] { self->Dispatch(queues); });
    }
    Dispatch(queues);
  }

  // Places for batches that have come in this round and are not looked at yet.
  std::int64_t FreePlaces(const Queues& queues) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(queues.mutex) {
    return queues.left < queues.next_number ? std::max<std::int64_t>(0, limit_ - queues.running) : 0;
  }

  void Push(Queues& queues, std::unique_ptr<Task> task) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(queues.mutex) {
    auto group = std::find_if(queues.groups.begin(), queues.groups.end(),
                              [&](const Group& other) { return Joins(other, task->call); });
    if (group == queues.groups.end()) group = queues.groups.emplace(queues.groups.end());
    task->number = queues.next_number++;
    group->rows += task->rows;
    queues.waiting_rows += task->rows;
    group->waiting.push_back(std::move(task));
  }

  // Starts batches as long as there are places, and sees to it that those that wait are looked at in time.
  void Dispatch(Queues& queues) const {
    if (dispatching == &queues) return;
    const Queues* const outer = std::exchange(dispatching, &queues);
    absl::Time look = absl::InfiniteFuture();
    while (true) {
      Tasks batch;
      {
        absl::MutexLock lock(&queues.mutex);
        if (queues.running < limit_) batch = TakeBatch(queues, absl::Now());
        if (batch.empty()) {
          queues.left = queues.next_number;
          look = NextLook(queues);
          break;
        }
        ++queues.running;
      }
      compute::Guarded([&] { RunBatch(queues, std::move(batch)); });
    }
    dispatching = outer;
    if (look != absl::InfiniteFuture()) Watch(look);
  }

  // The first batch of the group that has waited longest, of those that are full or have waited enough.
  Tasks TakeBatch(Queues& queues, absl::Time now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(queues.mutex) {
    Tasks batch;
    auto chosen = queues.groups.end();
    for (auto group = queues.groups.begin(); group != queues.groups.end(); ++group) {
      const bool full = group->rows >= options_.execution_limit();
      const absl::Time since = group->waiting.front()->enqueued;
      if (!full && since + options_.batch_timeout > now) continue;
      if (chosen == queues.groups.end() || since < chosen->waiting.front()->enqueued) chosen = group;
    }
    if (chosen == queues.groups.end()) return batch;
    std::int64_t rows = 0;
    while (!chosen->waiting.empty() && rows + chosen->waiting.front()->rows <= options_.execution_limit()) {
      std::unique_ptr<Task>& task = chosen->waiting.front();
      rows += task->rows;
      if (task->number < queues.left) CountWait(*task->call.signature, now - task->enqueued);
      batch.push_back(std::move(task));
      chosen->waiting.pop_front();
    }
    chosen->rows -= rows;
    queues.waiting_rows -= rows;
    if (chosen->waiting.empty()) queues.groups.erase(chosen);
    return batch;
  }

  // When something has to be done for the calls that wait: a batch is due, or a call has waited too long.
  absl::Time NextLook(const Queues& queues) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(queues.mutex) {
    absl::Time look = absl::InfiniteFuture();
    for (const Group& group : queues.groups) {
      if (queues.running < limit_) {
        look = std::min(look, group.waiting.front()->enqueued + options_.batch_timeout);
      }
      for (const std::unique_ptr<Task>& task : group.waiting) {
        look = std::min(look, task->call.context.deadline);
        if (task->call.context.cancelled) look = std::min(look, absl::Now() + absl::FromChrono(kAskGivenUp));
      }
    }
    return look;
  }

  void Watch(absl::Time look) const {
    const auto now = std::chrono::steady_clock::now();
    const absl::Duration left = look - absl::Now();
    watcher_.Watch(
        left > absl::Hours(24 * 365) ? DeadlineWatcher::Time::max() : now + absl::ToChronoNanoseconds(left),
        [self = weak_from_this()](DeadlineWatcher::Time) {
          const std::shared_ptr<const Batcher> batcher = self.lock();
          if (batcher == nullptr) return DeadlineWatcher::Time::max();
          for (Queues& queues : batcher->queues_) {
            compute::Guarded([&] { GiveUp(queues); });
            batcher->Dispatch(queues);
          }
          // Dispatch() has asked for the next time.
          return DeadlineWatcher::Time::max();
        });
  }

  // Answers calls that have waited too long or are not wanted any more.
  static void GiveUp(Queues& queues) {
    std::vector<std::pair<std::unique_ptr<Task>, absl::Status>> given_up;
    {
      const absl::Time now = absl::Now();
      absl::MutexLock lock(&queues.mutex);
      for (auto group = queues.groups.begin(); group != queues.groups.end();) {
        for (auto task = group->waiting.begin(); task != group->waiting.end();) {
          const CallContext& context = (*task)->call.context;
          const bool expired = context.deadline <= now;
          if (!expired && !(context.cancelled && context.cancelled())) {
            ++task;
            continue;
          }
          group->rows -= (*task)->rows;
          queues.waiting_rows -= (*task)->rows;
          given_up.emplace_back(
              std::move(*task),
              expired
                  ? absl::DeadlineExceededError("The deadline passed while the request waited for a batch.")
                  : absl::CancelledError("The call was cancelled while it waited for a batch."));
          task = group->waiting.erase(task);
        }
        group = group->waiting.empty() ? queues.groups.erase(group) : std::next(group);
      }
    }
    for (auto& [task, status] : given_up) task->done(std::move(status));
  }

  static void CountWait(const Signature& signature, absl::Duration wait) {
    signature.statistics->BatchWaited(wait);
    queuing_latency->GetCell("")->Add(absl::ToDoubleMicroseconds(wait));
  }

  // Counts a batch that runs; the place is free when the last owner is gone.
  class Place {
   public:
    Place(std::shared_ptr<const Batcher> batcher, Queues* queues)
        : batcher_(std::move(batcher)), queues_(queues) {}
    ~Place() {
      {
        absl::MutexLock lock(&queues_->mutex);
        --queues_->running;
      }
      compute::Guarded([&] { batcher_->Dispatch(*queues_); });
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    const std::shared_ptr<const Batcher> batcher_;
    Queues* const queues_;
  };

  // A batch from its start to the answers of its calls.
  struct Batch {
    Batch(std::shared_ptr<const Batcher> batcher, Queues* queues, Tasks given)
        : place(std::move(batcher), queues), tasks(std::move(given)) {}
    Place place;  // given away last
    Tasks tasks;
    std::int64_t rows = 0;
    std::int64_t padded_rows = 0;
  };

  void RunBatch(Queues& queues, Tasks tasks) const {
    auto batch = std::make_shared<Batch>(shared_from_this(), &queues, std::move(tasks));
    for (const std::unique_ptr<Task>& task : batch->tasks) batch->rows += task->rows;
    batch->padded_rows = batch->rows;
    for (auto size = options_.allowed_batch_sizes.rbegin(); size != options_.allowed_batch_sizes.rend();
         ++size) {
      if (*size >= batch->rows) batch->padded_rows = *size;
    }
    const Signature& signature = *batch->tasks.front()->call.signature;
    signature.statistics->BatchRun(batch->rows, batch->padded_rows);
    wrapped_run_count->GetCell()->IncrementBy(1);
    if (batch->tasks.size() == 1 && batch->padded_rows == batch->rows) return RunAlone(batch);
    absl::StatusOr<ServableCall> joined = Join(*batch);
    if (!joined.ok()) return RunAlone(batch);
    servable_->Start(*std::move(joined),
                     CallDone::Function([this, batch](absl::Status status, std::vector<Tensor> results) {
                       compute::Guarded([&] {
                         // A bad request fails only itself.
                         if (!status.ok() || !Divide(*batch, results)) RunAlone(batch);
                       });
                     }));
  }

  // Runs the calls of a batch that cannot be run together, or is one.
  void RunAlone(const std::shared_ptr<Batch>& batch) const {
    Tasks tasks = std::move(batch->tasks);
    for (std::unique_ptr<Task>& task : tasks) {
      servable_->Start(std::move(task->call),
                       CallDone::Function([batch, done = std::move(task->done)](
                                              absl::Status status, std::vector<Tensor> results) mutable {
                         done(std::move(status), std::move(results));
                       }));
    }
  }

  static absl::StatusOr<ServableCall> Join(const Batch& batch) {
    const ServableCall& first = batch.tasks.front()->call;
    ServableCall joined;
    joined.signature = first.signature;
    joined.outputs = first.outputs;
    joined.context.compute = first.context.compute;
    joined.context.deadline = absl::InfinitePast();
    for (const std::unique_ptr<Task>& task : batch.tasks) {
      joined.context.deadline = std::max(joined.context.deadline, task->call.context.deadline);
      joined.context.high_priority |= task->call.context.high_priority;
    }
    std::vector<const Tensor*> parts(batch.tasks.size());
    for (std::size_t i = 0; i < first.inputs.size(); ++i) {
      for (std::size_t j = 0; j < batch.tasks.size(); ++j) parts[j] = &batch.tasks[j]->call.inputs[i];
      TFIPU_ASSIGN_OR_RETURN(Tensor tensor, JoinRows(parts, batch.padded_rows));
      joined.inputs.push_back(std::move(tensor));
    }
    return joined;
  }

  // Answers the calls of a batch. False, and nobody is answered: an output has not the batch's rows, and the
  // signature is not batched from now on.
  bool Divide(Batch& batch, const std::vector<Tensor>& results) const {
    for (const Tensor& result : results) {
      if (result.dims() > 0 && result.dim_size(0) == batch.padded_rows) continue;
      Queues& queues = queues_[batch.tasks.front()->call.signature->index];
      absl::MutexLock lock(&queues.mutex);
      queues.batched = false;
      return false;
    }
    std::int64_t begin = 0;
    for (std::unique_ptr<Task>& task : batch.tasks) {
      std::vector<Tensor> own;
      own.reserve(results.size());
      for (const Tensor& result : results) own.push_back(CopyRows(result, begin, task->rows));
      begin += task->rows;
      const std::unique_ptr<Task> ended = std::move(task);
      ended->done(absl::OkStatus(), std::move(own));
    }
    return true;
  }

  // A call with more rows than are run together, one part after the other.
  struct Parts {
    ServableCall call;
    CallDone done;
    std::int64_t rows = 0;
    std::int64_t begin = 0;
    std::vector<std::vector<Tensor>> results;
  };

  void RunParts(const std::shared_ptr<Parts>& parts) const {
    while (parts->begin < parts->rows) {
      const std::int64_t count = std::min(options_.execution_limit(), parts->rows - parts->begin);
      ServableCall part{parts->call.signature, {}, parts->call.outputs, parts->call.context};
      for (const Tensor& input : parts->call.inputs) {
        part.inputs.push_back(CopyRows(input, parts->begin, count));
      }
      auto turn = std::make_shared<StartOrEnd>();
      Start(std::move(part), CallDone::Function([self = shared_from_this(), parts, turn, count](
                                                    absl::Status status, std::vector<Tensor> results) {
              compute::Guarded([&] {
                if (!status.ok()) {
                  parts->begin = parts->rows;
                  return parts->done(std::move(status));
                }
                parts->begin += count;
                parts->results.push_back(std::move(results));
                if (turn->Second()) self->RunParts(parts);
              });
            }));
      // Not ended yet: its end goes on.
      if (!turn->Second()) return;
    }
    if (parts->results.empty()) return;  // answered with an error
    EndParts(*parts);
  }

  static void EndParts(Parts& parts) {
    std::vector<Tensor> results;
    for (std::size_t i = 0; i < parts.call.outputs.size(); ++i) {
      std::vector<const Tensor*> pieces;
      std::int64_t rows = 0;
      for (const std::vector<Tensor>& part : parts.results) {
        if (part[i].dims() == 0) {
          return parts.done(absl::InvalidArgumentError(
              "A request above the batch size cannot be run in parts: an output is a scalar."));
        }
        pieces.push_back(&part[i]);
        rows += part[i].dim_size(0);
      }
      absl::StatusOr<Tensor> joined = JoinRows(pieces, rows);
      if (!joined.ok()) return parts.done(joined.status());
      results.push_back(*std::move(joined));
    }
    parts.done(absl::OkStatus(), std::move(results));
  }

  const std::unique_ptr<const Servable> servable_;
  const BatchingOptions options_;
  const std::int64_t limit_;
  mutable std::vector<Queues> queues_;
  mutable DeadlineWatcher watcher_;
};

class BatchingServable : public Servable {
 public:
  BatchingServable(std::unique_ptr<const Servable> servable, const BatchingOptions& options)
      : batcher_(std::make_shared<Batcher>(std::move(servable), options)) {}

  const ServableId& id() const override { return batcher_->servable().id(); }
  const std::map<std::string, Signature, std::less<>>& signatures() const override {
    return batcher_->servable().signatures();
  }
  bool UsesDevice() const override { return batcher_->servable().UsesDevice(); }
  void Start(ServableCall call, CallDone done) const override {
    const std::shared_ptr<const Batcher> batcher = batcher_;
    batcher->Start(std::move(call), std::move(done));
  }

 private:
  const std::shared_ptr<const Batcher> batcher_;
};

}  // namespace

std::unique_ptr<const Servable> MakeBatchingServable(std::unique_ptr<const Servable> servable,
                                                     const BatchingOptions& options) {
  return std::make_unique<BatchingServable>(std::move(servable), options);
}

}  // namespace tfipu::serving
