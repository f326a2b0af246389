#include "serving/batching/batching_servable.h"

#include <atomic>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using ::testing::ElementsAre;

// "double" doubles int32 rows and notes how many rows each run had; "sum" is not batched as its output is a
// scalar; "mixed" says it has rows but returns one. Negative rows are an error. While held, runs wait.
class Doubler : public Servable {
 public:
  struct Shared {
    absl::Mutex mutex;
    std::vector<std::int64_t> runs ABSL_GUARDED_BY(mutex);
    bool held ABSL_GUARDED_BY(mutex) = false;
    int inside ABSL_GUARDED_BY(mutex) = 0;
  };

  explicit Doubler(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {
    int index = 0;
    for (const char* const name : {"double", "mixed", "sum"}) {
      Signature signature;
      signature.name = name;
      signature.index = index++;
      const tensorflow::PartialTensorShape rows({-1, -1});
      signature.inputs.push_back({"x", "x:0", tensorflow::DT_INT32, rows, {}});
      signature.outputs.push_back({"y",
                                   "y:0",
                                   tensorflow::DT_INT32,
                                   signature.name == "sum" ? tensorflow::PartialTensorShape({})
                                                           : tensorflow::PartialTensorShape(rows),
                                   {}});
      signatures_.emplace(name, std::move(signature));
    }
  }

  const ServableId& id() const override { return id_; }
  const std::map<std::string, Signature, std::less<>>& signatures() const override { return signatures_; }
  void Start(ServableCall call, CallDone done) const override {
    std::vector<Tensor> results;
    absl::Status status = Double(*call.signature, call.inputs, &results);
    done(std::move(status), std::move(results));
  }

 private:
  absl::Status Double(const Signature& signature, const std::vector<Tensor>& inputs,
                      std::vector<Tensor>* results) const {
    {
      absl::MutexLock lock(&shared_->mutex);
      ++shared_->inside;
      const auto free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex) { return !shared_->held; };
      shared_->mutex.Await(absl::Condition(&free));
      --shared_->inside;
      shared_->runs.push_back(inputs[0].dim_size(0));
    }
    Tensor result(tensorflow::DT_INT32, inputs[0].shape());
    for (int i = 0; i < inputs[0].NumElements(); ++i) {
      const int value = inputs[0].flat<int>()(i);
      if (value < 0) return absl::InvalidArgumentError(absl::StrCat("negative: ", value));
      result.flat<int>()(i) = 2 * value;
    }
    if (signature.name != "double") {
      const Tensor all = result;
      result = Tensor(tensorflow::DT_INT32, signature.name == "sum" ? tensorflow::TensorShape({})
                                                                    : tensorflow::TensorShape({1, 1}));
      result.flat<int>()(0) = 0;
      for (int i = 0; i < all.NumElements(); ++i) result.flat<int>()(0) += all.flat<int>()(i);
    }
    results->assign(1, result);
    return absl::OkStatus();
  }

  const ServableId id_{"m", 1};
  const std::shared_ptr<Shared> shared_;
  std::map<std::string, Signature, std::less<>> signatures_;
};

class BatchingServableTest : public ::testing::Test {
 protected:
  void Make(const BatchingOptions& options) {
    servable_ = MakeBatchingServable(std::make_unique<Doubler>(shared_), options);
  }

  static Tensor Column(const std::vector<int>& values, int width = 1) {
    Tensor tensor(tensorflow::DT_INT32, {static_cast<std::int64_t>(values.size()), width});
    for (std::size_t i = 0; i < values.size() * width; ++i) tensor.flat<int>()(i) = values[i / width];
    return tensor;
  }

  absl::Status Run(const std::string& signature, const Tensor& input, std::vector<int>* values = nullptr,
                   absl::Time deadline = absl::InfiniteFuture()) {
    CallContext context;
    context.deadline = deadline;
    std::vector<Tensor> results;
    const absl::Status status =
        servable_->Run(servable_->signatures().find(signature)->second, {input}, {0}, context, &results);
    if (status.ok() && values != nullptr) {
      const auto flat = results[0].flat<int>();
      values->assign(flat.data(), flat.data() + flat.size());
    }
    return status;
  }

  void Hold(bool held) {
    absl::MutexLock lock(&shared_->mutex);
    shared_->held = held;
  }
  void WaitUntilInside(int calls) {
    absl::MutexLock lock(&shared_->mutex);
    const auto inside = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared_->mutex) {
      return shared_->inside == calls;
    };
    shared_->mutex.Await(absl::Condition(&inside));
  }
  std::vector<std::int64_t> Runs() {
    absl::MutexLock lock(&shared_->mutex);
    return shared_->runs;
  }

  const std::shared_ptr<Doubler::Shared> shared_ = std::make_shared<Doubler::Shared>();
  std::unique_ptr<const Servable> servable_;
};

BatchingOptions WaitForever(std::int64_t size) {
  BatchingOptions options;
  options.max_batch_size = size;
  options.batch_timeout = absl::Hours(1);
  return options;
}

TEST_F(BatchingServableTest, RunsCallsTogetherWhenTheBatchIsFull) {
  Make(WaitForever(4));
  std::vector<std::thread> callers;
  std::vector<std::vector<int>> answers(3);
  callers.emplace_back([&] { EXPECT_TRUE(Run("double", Column({1}), &answers[0]).ok()); });
  callers.emplace_back([&] { EXPECT_TRUE(Run("double", Column({2, 3}), &answers[1]).ok()); });
  callers.emplace_back([&] { EXPECT_TRUE(Run("double", Column({4}), &answers[2]).ok()); });
  for (std::thread& caller : callers) caller.join();
  EXPECT_THAT(answers[0], ElementsAre(2));
  EXPECT_THAT(answers[1], ElementsAre(4, 6));
  EXPECT_THAT(answers[2], ElementsAre(8));
  EXPECT_THAT(Runs(), ElementsAre(4));
}

TEST_F(BatchingServableTest, RunsAnIncompleteBatchAfterTheTimeout) {
  BatchingOptions options = WaitForever(100);
  options.batch_timeout = absl::Milliseconds(1);
  Make(options);
  std::vector<int> answer;
  EXPECT_TRUE(Run("double", Column({5}), &answer).ok());
  EXPECT_THAT(answer, ElementsAre(10));
}

TEST_F(BatchingServableTest, JoinsWhatComesWhileAllPlacesAreTaken) {
  BatchingOptions options;
  options.num_batch_threads = 1;
  options.max_batch_size = 8;
  options.max_enqueued_batches = 1;
  Make(options);
  Hold(true);
  std::thread first([&] { EXPECT_TRUE(Run("double", Column({1})).ok()); });
  WaitUntilInside(1);
  std::vector<std::thread> others;
  std::atomic<int> right{0};
  for (int i = 2; i < 10; ++i) {
    others.emplace_back([&, i] {
      std::vector<int> answer;
      absl::Status status;
      do {
        status = Run("double", Column({i}), &answer);
      } while (absl::IsUnavailable(status));
      right += status.ok() && answer == std::vector<int>{2 * i} ? 1 : 0;
    });
  }
  // A ninth row does not fit the queue as soon as the eight wait; until then it may take the place of one,
  // which tries again.
  absl::Status status;
  while (!absl::IsUnavailable(status)) {
    status = Run("double", Column({1}), nullptr, absl::Now() + absl::Milliseconds(5));
  }
  Hold(false);
  first.join();
  for (std::thread& other : others) other.join();
  EXPECT_EQ(right, 8);
  EXPECT_THAT(Runs(), ElementsAre(1, 8));
}

TEST_F(BatchingServableTest, ABadRequestFailsOnlyItself) {
  Make(WaitForever(2));
  absl::Status good, bad;
  std::thread other([&] { bad = Run("double", Column({-7})); });
  good = Run("double", Column({3}));
  other.join();
  EXPECT_TRUE(good.ok()) << good;
  EXPECT_EQ(bad, absl::InvalidArgumentError("negative: -7"));
}

TEST_F(BatchingServableTest, PadsToAllowedSizes) {
  BatchingOptions options;
  options.max_batch_size = 8;
  options.allowed_batch_sizes = {4, 8};
  Make(options);
  std::vector<int> answer;
  EXPECT_TRUE(Run("double", Column({1, 2, 3}), &answer).ok());
  EXPECT_THAT(answer, ElementsAre(2, 4, 6));
  EXPECT_TRUE(Run("double", Column({1, 2, 3, 4, 5}), &answer).ok());
  EXPECT_THAT(Runs(), ElementsAre(4, 8));
}

TEST_F(BatchingServableTest, RefusesOrSplitsLargeRequests) {
  BatchingOptions options;
  options.max_batch_size = 2;
  Make(options);
  EXPECT_EQ(Run("double", Column({1, 2, 3})),
            absl::InvalidArgumentError("Task size 3 is larger than maximum input batch size 2"));
  options.enable_large_batch_splitting = true;
  Make(options);
  std::vector<int> answer;
  EXPECT_TRUE(Run("double", Column({1, 2, 3, 4, 5}), &answer).ok());
  EXPECT_THAT(answer, ElementsAre(2, 4, 6, 8, 10));
  EXPECT_THAT(Runs(), ElementsAre(2, 2, 1));
}

TEST_F(BatchingServableTest, JoinsDifferentShapesOnlyWhenTheyArePadded) {
  BatchingOptions options = WaitForever(2);
  options.pad_variable_length_inputs = true;
  Make(options);
  std::vector<int> narrow, wide;
  std::thread other([&] { EXPECT_TRUE(Run("double", Column({1}, 1), &narrow).ok()); });
  EXPECT_TRUE(Run("double", Column({2}, 3), &wide).ok());
  other.join();
  EXPECT_THAT(narrow, ElementsAre(2, 0, 0));
  EXPECT_THAT(wide, ElementsAre(4, 4, 4));

  options = WaitForever(2);
  options.batch_timeout = absl::Milliseconds(1);
  Make(options);
  std::thread another([&] { EXPECT_TRUE(Run("double", Column({1}, 1), &narrow).ok()); });
  EXPECT_TRUE(Run("double", Column({2}, 3), &wide).ok());
  another.join();
  EXPECT_THAT(narrow, ElementsAre(2));
}

TEST_F(BatchingServableTest, WhatHasNoRowsIsNotBatched) {
  Make(WaitForever(100));
  std::vector<int> answer;
  EXPECT_TRUE(Run("sum", Column({1, 2}), &answer).ok());
  EXPECT_THAT(answer, ElementsAre(6));
}

TEST_F(BatchingServableTest, ASignatureWhoseOutputHasOtherRowsIsRunCallByCall) {
  Make(WaitForever(2));
  std::vector<int> a, b;
  std::thread other([&] { EXPECT_TRUE(Run("mixed", Column({1}), &a).ok()); });
  EXPECT_TRUE(Run("mixed", Column({2}), &b).ok());
  other.join();
  EXPECT_THAT(a, ElementsAre(2));
  EXPECT_THAT(b, ElementsAre(4));
  EXPECT_TRUE(Run("mixed", Column({3}), &a).ok());
  EXPECT_THAT(a, ElementsAre(6));
}

TEST_F(BatchingServableTest, DeadlinesPassInTheQueue) {
  Make(WaitForever(100));
  EXPECT_TRUE(
      absl::IsDeadlineExceeded(Run("double", Column({1}), nullptr, absl::Now() + absl::Milliseconds(1))));
  EXPECT_THAT(Runs(), ElementsAre());
}

TEST_F(BatchingServableTest, AFullQueueRefuses) {
  BatchingOptions options;
  options.num_batch_threads = 1;
  options.max_batch_size = 2;
  options.max_enqueued_batches = 1;
  Make(options);
  Hold(true);
  std::thread first([&] { EXPECT_TRUE(Run("double", Column({1})).ok()); });
  WaitUntilInside(1);
  std::thread second([&] {
    absl::Status status;
    do {
      status = Run("double", Column({1, 2}));
    } while (absl::IsUnavailable(status));
    EXPECT_TRUE(status.ok()) << status;
  });
  absl::Status status;
  // Until the second waits, a third would wait as well: its deadline ends that.
  while (!absl::IsUnavailable(status)) {
    status = Run("double", Column({1}), nullptr, absl::Now() + absl::Milliseconds(5));
  }
  Hold(false);
  first.join();
  second.join();
}

TEST_F(BatchingServableTest, AQueueMayBePracticallyUnbounded) {
  BatchingOptions options = WaitForever(2);
  options.max_enqueued_batches = std::numeric_limits<std::int64_t>::max();
  Make(options);
  std::thread other([&] { EXPECT_TRUE(Run("double", Column({1})).ok()); });
  EXPECT_TRUE(Run("double", Column({2})).ok());
  other.join();
}

TEST_F(BatchingServableTest, ManyThreadsGetTheirOwnAnswers) {
  BatchingOptions options;
  options.max_batch_size = 16;
  options.batch_timeout = absl::Microseconds(200);
  options.max_enqueued_batches = 1000;
  Make(options);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int t = 0; t < 16; ++t) {
    callers.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        std::vector<int> answer;
        const int value = 1000 * t + i;
        if (!Run("double", Column({value, value + 1}), &answer).ok() ||
            answer != std::vector<int>{2 * value, 2 * value + 2}) {
          ++wrong;
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace tfipu::serving
