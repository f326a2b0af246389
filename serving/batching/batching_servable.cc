#include "serving/batching/batching_servable.h"

#include <algorithm>
#include <deque>
#include <list>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "cc/base/status_macros.h"
#include "serving/batching/rows.h"
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

// One call, on its caller's stack.
struct Task {
  Task(const std::vector<Tensor>* inputs, const CallContext* context, std::vector<Tensor>* results)
      : inputs(inputs), context(context), results(results) {}

  const std::vector<Tensor>* const inputs;
  const CallContext* const context;
  std::vector<Tensor>* const results;
  std::int64_t rows = 0;
  absl::Time enqueued = absl::InfinitePast();  // in a line
  absl::Status status;
  bool taken = false;  // out of the line, in a batch
  bool done = false;
  absl::CondVar changed;
};

// Calls that can be run together, in order of arrival.
struct Group {
  std::vector<int> outputs;
  std::deque<Task*> waiting;
  std::int64_t rows = 0;
};

struct Queues {
  absl::Mutex mutex;
  std::list<Group> groups ABSL_GUARDED_BY(mutex);
  std::int64_t running ABSL_GUARDED_BY(mutex) = 0;
  std::int64_t waiting_rows ABSL_GUARDED_BY(mutex) = 0;
  // Fixed by the signature, or found out when an output had not the batch's rows.
  bool batched ABSL_GUARDED_BY(mutex) = true;
};

bool OpenFirstDimension(const std::vector<SignatureTensor>& tensors, bool unknown_rank) {
  return std::all_of(tensors.begin(), tensors.end(), [&](const SignatureTensor& tensor) {
    if (tensor.shape.unknown_rank()) return unknown_rank;
    return tensor.shape.dims() > 0 && tensor.shape.dim_size(0) < 0;
  });
}

class BatchingServable : public Servable {
 public:
  BatchingServable(std::unique_ptr<const Servable> servable, const BatchingOptions& options)
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

  const ServableId& id() const override { return servable_->id(); }
  const std::map<std::string, Signature, std::less<>>& signatures() const override {
    return servable_->signatures();
  }
  bool UsesDevice() const override { return servable_->UsesDevice(); }

  bool ExpectedShort(const Signature& signature) const override {
    // A call that waits for company must not hold up a transport's thread.
    if (options_.batch_timeout > absl::ZeroDuration()) {
      Queues& queues = queues_[signature.index];
      absl::MutexLock lock(&queues.mutex);
      if (queues.batched) return false;
    }
    return servable_->ExpectedShort(signature);
  }

  absl::Status Run(const Signature& signature, const std::vector<Tensor>& inputs,
                   absl::Span<const int> outputs, const CallContext& context,
                   std::vector<Tensor>* results) const override {
    Queues& queues = queues_[signature.index];
    Task task(&inputs, &context, results);
    {
      absl::MutexLock lock(&queues.mutex);
      task.rows = queues.batched ? Rows(signature, inputs) : -1;
      const bool at_once = task.rows >= 0 && options_.batch_timeout <= absl::ZeroDuration() &&
                           queues.groups.empty() && queues.running < limit_ &&
                           task.rows <= options_.execution_limit();
      if (at_once) {
        ++queues.running;
      } else if (task.rows >= 0) {
        task.enqueued = absl::Now();
      }
    }
    // Whatever cannot be batched is left to the servable, which also knows what to say of it.
    if (task.rows < 0) return servable_->Run(signature, inputs, outputs, context, results);
    if (task.rows > options_.max_batch_size && !options_.enable_large_batch_splitting) {
      return absl::InvalidArgumentError(absl::StrCat(
          "Task size ", task.rows, " is larger than maximum input batch size ", options_.max_batch_size));
    }
    if (task.rows > options_.execution_limit()) return RunInParts(signature, outputs, task);
    if (task.enqueued == absl::InfinitePast()) {
      RunBatch(signature, outputs, {&task}, task.rows);
      absl::MutexLock lock(&queues.mutex);
      --queues.running;
      WakeNext(queues);
      return task.status;
    }
    return Wait(signature, outputs, queues, task);
  }

 private:
  // Rows of a call, or -1 when its inputs are none that can be batched.
  static std::int64_t Rows(const Signature& signature, const std::vector<Tensor>& inputs) {
    if (inputs.size() != signature.inputs.size()) return -1;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].dims() == 0 || inputs[i].dim_size(0) != inputs[0].dim_size(0)) return -1;
      if (inputs[i].dtype() != signature.inputs[i].dtype) return -1;
      if (!signature.inputs[i].shape.IsCompatibleWith(inputs[i].shape())) return -1;
    }
    return inputs[0].dim_size(0) == 0 ? -1 : inputs[0].dim_size(0);
  }

  bool Joins(const Group& group, absl::Span<const int> outputs, const std::vector<Tensor>& inputs) const {
    if (absl::MakeConstSpan(group.outputs) != outputs) return false;
    const std::vector<Tensor>& others = *group.waiting.front()->inputs;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      if (options_.pad_variable_length_inputs ? others[i].dims() != inputs[i].dims()
                                              : !SameRowShape(others[i], inputs[i])) {
        return false;
      }
    }
    return true;
  }

  absl::Status Wait(const Signature& signature, absl::Span<const int> outputs, Queues& queues,
                    Task& task) const {
    absl::MutexLock lock(&queues.mutex);
    // Divided, as the product of two such numbers may be none.
    if ((queues.waiting_rows + task.rows - 1) / options_.max_batch_size >= options_.max_enqueued_batches) {
      return absl::UnavailableError(absl::StrCat("The batching queue of signature \"", signature.name,
                                                 "\" is full: ", queues.waiting_rows, " rows wait."));
    }
    auto group = std::find_if(queues.groups.begin(), queues.groups.end(),
                              [&](const Group& other) { return Joins(other, outputs, *task.inputs); });
    if (group == queues.groups.end()) {
      group = queues.groups.emplace(queues.groups.end());
      group->outputs.assign(outputs.begin(), outputs.end());
    }
    group->waiting.push_back(&task);
    group->rows += task.rows;
    queues.waiting_rows += task.rows;
    while (!task.done) {
      // The group may be gone.
      if (task.taken) {
        task.changed.Wait(&queues.mutex);
        continue;
      }
      const absl::Time due = group->waiting.front()->enqueued + options_.batch_timeout;
      const bool full = group->rows >= options_.execution_limit();
      if (queues.running < limit_ && (full || due <= absl::Now())) {
        RunNext(signature, queues, group);
        continue;
      }
      // The first one in line minds the clock for all.
      const bool minds_clock = group->waiting.front() == &task && queues.running < limit_;
      if (task.changed.WaitWithDeadline(
              &queues.mutex, std::min(task.context->deadline, minds_clock ? due : absl::InfiniteFuture())) &&
          !task.taken && task.context->deadline <= absl::Now()) {
        group->waiting.erase(std::find(group->waiting.begin(), group->waiting.end(), &task));
        Left(queues, group, task);
        return absl::DeadlineExceededError("The deadline passed while the request waited for a batch.");
      }
    }
    return task.status;
  }

  // A task is out of the group's line: whoever is first there now has to know.
  static void Left(Queues& queues, std::list<Group>::iterator group, const Task& task)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(queues.mutex) {
    group->rows -= task.rows;
    queues.waiting_rows -= task.rows;
    if (group->waiting.empty()) {
      queues.groups.erase(group);
    } else {
      group->waiting.front()->changed.Signal();
    }
  }

  // Runs the first batch of a group in this thread, without the lock.
  void RunNext(const Signature& signature, Queues& queues, std::list<Group>::iterator group) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(queues.mutex) {
    std::vector<Task*> batch;
    std::int64_t rows = 0;
    const std::vector<int> outputs = group->outputs;
    while (!group->waiting.empty() && rows + group->waiting.front()->rows <= options_.execution_limit()) {
      batch.push_back(group->waiting.front());
      batch.back()->taken = true;
      CountWait(signature, absl::Now() - batch.back()->enqueued);
      rows += batch.back()->rows;
      group->waiting.pop_front();
    }
    group->rows -= rows;
    queues.waiting_rows -= rows;
    if (group->waiting.empty()) {
      queues.groups.erase(group);
    } else {
      group->waiting.front()->changed.Signal();
    }
    ++queues.running;
    queues.mutex.Unlock();
    RunBatch(signature, outputs, batch, rows);
    queues.mutex.Lock();
    --queues.running;
    // A task may be gone as soon as the lock is given up.
    for (Task* const task : batch) {
      task->done = true;
      task->changed.Signal();
    }
    WakeNext(queues);
  }

  // There is a free place: the group that has waited longest may take it.
  static void WakeNext(Queues& queues) ABSL_EXCLUSIVE_LOCKS_REQUIRED(queues.mutex) {
    if (queues.groups.empty()) return;
    const auto oldest =
        std::min_element(queues.groups.begin(), queues.groups.end(), [](const Group& a, const Group& b) {
          return a.waiting.front()->enqueued < b.waiting.front()->enqueued;
        });
    oldest->waiting.front()->changed.Signal();
  }

  static void CountWait(const Signature& signature, absl::Duration wait) {
    signature.statistics->BatchWaited(wait);
    queuing_latency->GetCell("")->Add(absl::ToDoubleMicroseconds(wait));
  }

  // Sets status and results of each task.
  void RunBatch(const Signature& signature, absl::Span<const int> outputs, const std::vector<Task*>& batch,
                std::int64_t rows) const {
    std::int64_t padded_rows = rows;
    for (auto size = options_.allowed_batch_sizes.rbegin(); size != options_.allowed_batch_sizes.rend();
         ++size) {
      if (*size >= rows) padded_rows = *size;
    }
    signature.statistics->BatchRun(rows, padded_rows);
    wrapped_run_count->GetCell()->IncrementBy(1);
    if (batch.size() == 1 && padded_rows == rows) {
      Task& task = *batch.front();
      task.status = servable_->Run(signature, *task.inputs, outputs, *task.context, task.results);
      return;
    }
    std::vector<Tensor> results;
    const absl::Status status = RunJoined(signature, outputs, batch, padded_rows, &results);
    if (!status.ok() || !Divide(signature, rows, batch, padded_rows, results)) {
      for (Task* const task : batch) {
        task->status = servable_->Run(signature, *task->inputs, outputs, *task->context, task->results);
      }
    }
  }

  absl::Status RunJoined(const Signature& signature, absl::Span<const int> outputs,
                         const std::vector<Task*>& batch, std::int64_t rows,
                         std::vector<Tensor>* results) const {
    CallContext context;
    context.deadline = absl::InfinitePast();
    for (const Task* const task : batch) {
      context.deadline = std::max(context.deadline, task->context->deadline);
      context.high_priority |= task->context->high_priority;
    }
    std::vector<Tensor> inputs;
    std::vector<const Tensor*> parts(batch.size());
    for (std::size_t i = 0; i < signature.inputs.size(); ++i) {
      for (std::size_t j = 0; j < batch.size(); ++j) parts[j] = &(*batch[j]->inputs)[i];
      TFIPU_ASSIGN_OR_RETURN(Tensor joined, JoinRows(parts, rows));
      inputs.push_back(std::move(joined));
    }
    return servable_->Run(signature, inputs, outputs, context, results);
  }

  // False: an output has not the batch's rows, and the signature is not batched from now on.
  bool Divide(const Signature& signature, std::int64_t rows, const std::vector<Task*>& batch,
              std::int64_t padded_rows, const std::vector<Tensor>& results) const {
    for (const Tensor& result : results) {
      if (result.dims() > 0 && result.dim_size(0) == padded_rows) continue;
      Queues& queues = queues_[signature.index];
      absl::MutexLock lock(&queues.mutex);
      queues.batched = false;
      return false;
    }
    std::int64_t begin = 0;
    for (Task* const task : batch) {
      task->status = absl::OkStatus();
      task->results->clear();
      for (const Tensor& result : results) task->results->push_back(CopyRows(result, begin, task->rows));
      begin += task->rows;
    }
    return true;
  }

  absl::Status RunInParts(const Signature& signature, absl::Span<const int> outputs, const Task& task) const {
    std::vector<std::vector<Tensor>> parts;
    for (std::int64_t begin = 0; begin < task.rows; begin += options_.execution_limit()) {
      const std::int64_t count = std::min(options_.execution_limit(), task.rows - begin);
      std::vector<Tensor> inputs;
      for (const Tensor& input : *task.inputs) inputs.push_back(CopyRows(input, begin, count));
      parts.emplace_back();
      TFIPU_RETURN_IF_ERROR(Run(signature, inputs, outputs, *task.context, &parts.back()));
    }
    task.results->clear();
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      std::vector<const Tensor*> pieces;
      for (const std::vector<Tensor>& part : parts) {
        if (part[i].dims() == 0) {
          return absl::InvalidArgumentError(
              "A request above the batch size cannot be run in parts: an output is a scalar.");
        }
        pieces.push_back(&part[i]);
      }
      std::int64_t rows = 0;
      for (const Tensor* const piece : pieces) rows += piece->dim_size(0);
      TFIPU_ASSIGN_OR_RETURN(Tensor joined, JoinRows(pieces, rows));
      task.results->push_back(std::move(joined));
    }
    return absl::OkStatus();
  }

  const std::unique_ptr<const Servable> servable_;
  const BatchingOptions options_;
  const std::int64_t limit_;
  mutable std::vector<Queues> queues_;
};

}  // namespace

std::unique_ptr<const Servable> MakeBatchingServable(std::unique_ptr<const Servable> servable,
                                                     const BatchingOptions& options) {
  return std::make_unique<BatchingServable>(std::move(servable), options);
}

}  // namespace tfipu::serving
