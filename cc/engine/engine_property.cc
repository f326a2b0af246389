#include "cc/engine/engine_property.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>

#include "cc/engine/engine.h"
#include "cc/engine/fake_device.h"
#include "cc/engine/test_call.h"

namespace tfipu {
namespace {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  int Between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(engine_); }
  bool OneIn(int n) { return Between(1, n) == 1; }
  template <typename T>
  T Of(std::initializer_list<T> values) {
    return values.begin()[Between(0, static_cast<int>(values.size()) - 1)];
  }

 private:
  std::mt19937_64 engine_;
};

std::uint64_t Setting(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

// `make_program`: null for scripted devices, which also fail.
void RunCase(std::uint64_t seed, const ProgramMaker& make_program) {
  Random random(seed);
  FakeShape shape;
  shape.batch = random.Of({1, 2, 3, 5, 16});
  shape.row_batching = !random.OneIn(4);
  if (shape.row_batching && random.OneIn(2)) {
    for (const int rows : {1, 4}) {
      if (rows < shape.batch) shape.row_variants.push_back(rows);
    }
  }
  shape.hold = random.Of({0, 0, 1, 2});
  if (make_program) shape.hold = 0;
  shape.iterations = random.Of({1, 3});
  EngineOptions options;
  options.name = "E";
  options.replicas = random.Between(1, 3);
  options.timeout = absl::Microseconds(random.Of({0, 20, 200}));
  options.max_wait = absl::Microseconds(random.Of({0, 0, 30, 300}));
  options.max_queued_calls = random.OneIn(6) ? random.Between(1, 10) : 0;

  auto script = std::make_shared<FakeScript>();
  script->finish_in_other_thread = random.OneIn(2);
  const int failing = random.OneIn(3) && !make_program ? random.Between(2, 12) : 0;  // every so many steps
  const int lasting = random.OneIn(8) && !make_program ? random.Between(0, 20) : -1;
  script->on_step = [=](int step, const Step&) -> std::optional<DeviceFailure> {
    if (step == lasting) return DeviceFailure{DeviceFailure::Kind::kUnknown, "", "lasting"};
    if (failing > 0 && step % failing == failing - 1) {
      return DeviceFailure{DeviceFailure::Kind::kApplicationError, "", "passing"};
    }
    return std::nullopt;
  };
  if (random.OneIn(10)) script->on_reset = [] { return absl::InternalError("no reset"); };

  std::shared_ptr<Program> program =
      make_program ? make_program(shape) : FakeProgramOf(script, FakeExecutable(shape));
  ASSERT_NE(program, nullptr);
  absl::StatusOr<std::shared_ptr<Engine>> engine = Engine::Start(options, std::move(program), {});
  ASSERT_TRUE(engine.ok()) << engine.status();

  const int thread_count = random.Between(1, 3);
  const int calls_each = random.Between(1, 15);
  std::vector<std::vector<std::unique_ptr<TestCall>>> calls(thread_count);
  std::vector<std::thread> threads;
  for (int t = 0; t < thread_count; ++t) {
    threads.emplace_back([&, t, seed_of_thread = random.Between(0, 1 << 30)] {
      Random own(seed_of_thread);
      bool added = false;
      const auto given_up = std::make_shared<std::atomic<bool>>(false);
      for (int i = 0; i < calls_each; ++i) {
        const std::int64_t rows = shape.row_batching ? own.Between(0, 3 * shape.batch) : shape.batch;
        calls[t].push_back(std::make_unique<TestCall>(rows, t * 1000000 + i * 1000, own.Of({0, 0, 4, 64})));
        Call call = calls[t].back()->Make();
        if (own.OneIn(5)) call.deadline = absl::Now() + absl::Microseconds(own.Between(-10, 300));
        if (own.OneIn(4)) call.priority = Priority::kHigh;
        if (own.OneIn(8)) call.cancelled = [given_up] { return given_up->load(); };
        CallId id;
        if (own.OneIn(2)) {
          id = (*engine)->Enqueue(std::move(call));
        } else {
          // What is added alone, or with others, is run by this thread or by the engine's.
          id = (*engine)->Add(std::move(call));
          added = true;
        }
        const bool last = i + 1 == calls_each;
        const bool wait = own.OneIn(4);
        if (added && (last || wait || own.OneIn(2))) {
          added = false;
          switch (own.Between(0, 2)) {
            case 0:
              (*engine)->Wake();
              break;
            case 1:
              (*engine)->RunHere(Engine::Patience::kShort);
              break;
            default:
              (*engine)->RunHere(Engine::Patience::kAny);
          }
        }
        if (own.OneIn(6)) (*engine)->Cancel(id - own.Between(0, 2));
        if (own.OneIn(10)) given_up->store(true);
        if (wait) calls[t].back()->Await().IgnoreError();
      }
    });
  }
  const bool stop_early = random.OneIn(4);
  if (stop_early) (*engine)->Stop();
  for (std::thread& thread : threads) thread.join();
  int succeeded = 0;
  int stopped_or_cancelled = 0;
  for (auto& own : calls) {
    for (auto& call : own) {
      const absl::Status status = call->Await();
      switch (status.code()) {
        case absl::StatusCode::kOk:
          ++succeeded;
          EXPECT_TRUE(call->right());
          break;
        case absl::StatusCode::kCancelled:
          ++stopped_or_cancelled;
          break;
        case absl::StatusCode::kDeadlineExceeded:
          break;
        case absl::StatusCode::kResourceExhausted:
          EXPECT_GT(options.max_queued_calls, 0);
          break;
        case absl::StatusCode::kInternal:
          EXPECT_GT(failing, 0) << status;
          break;
        case absl::StatusCode::kUnknown:
          EXPECT_GE(lasting, 0) << status;
          break;
        default:
          ADD_FAILURE() << status;
      }
    }
  }
  (*engine)->Stop();
  EXPECT_EQ(script->destroyed(), make_program ? 0 : options.replicas);
  const EngineStatistics statistics = (*engine)->Statistics();
  EXPECT_EQ(statistics.queued, 0);
  EXPECT_LE(statistics.calls, succeeded);  // calls without rows are not counted
  const std::uint64_t most = statistics.steps * (shape.row_batching ? shape.batch : 1);
  if (shape.row_variants.empty()) {
    EXPECT_EQ(statistics.rows + statistics.padded_rows, most);
  } else {
    EXPECT_LE(statistics.rows + statistics.padded_rows, most);
  }
  for (auto& own : calls) {
    for (auto& call : own) {
      EXPECT_EQ(call->answers(), 1);
      EXPECT_TRUE(call->untouched());
    }
  }
}

}  // namespace

void RunEngineProperty(std::uint64_t default_cases, const ProgramMaker& make_program) {
  const std::uint64_t cases = Setting("ENGINE_PROPERTY_CASES", default_cases);
  const std::uint64_t first = Setting("ENGINE_PROPERTY_SEED", 1);
  for (std::uint64_t seed = first; seed < first + cases; ++seed) {
    RunCase(seed, make_program);
    if (::testing::Test::HasFailure()) {
      GTEST_FAIL() << "ENGINE_PROPERTY_SEED=" << seed;
    }
  }
}

}  // namespace tfipu
