#include "serving/monitoring/signature_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serving/api/fake_servable.h"

namespace tfipu::serving {
namespace {

using testing::HasSubstr;
using testing::Not;

std::shared_ptr<const Servable> Model() {
  auto servable = std::make_shared<FakeServable>(ServableId{"m", 7}, nullptr);
  for (const char* name : {"called", "unused"}) {
    Signature signature;
    signature.name = name;
    servable->Add(std::move(signature));
  }
  return servable;
}

TEST(SignatureMetricsTest, CallsCountByWhatBecameOfThem) {
  const auto servable = Model();
  SignatureStatistics& statistics = *servable->signatures().at("called").statistics;
  statistics.CallFinished(absl::OkStatus(), absl::Microseconds(5));
  statistics.CallFinished(absl::OkStatus(), absl::Microseconds(100));
  statistics.CallFinished(absl::InvalidArgumentError(""), absl::Microseconds(5));
  statistics.CallFinished(absl::ResourceExhaustedError(""), absl::Microseconds(5));
  statistics.CallFinished(absl::UnavailableError(""), absl::Microseconds(5));
  statistics.CallFinished(absl::DeadlineExceededError(""), absl::Microseconds(5));
  statistics.CallFinished(absl::CancelledError(""), absl::Microseconds(5));
  const std::string page = SignatureMetricsText({servable});
  const std::string prefix = ":tensorflow_ipu:signature:";
  const std::string labels = R"(model_name="m",version="7",signature="called")";
  for (const char* line :
       {"calls_count{L} 2\n", "failed_count{L} 1\n", "rejected_count{L} 2\n", "expired_count{L} 1\n",
        "cancelled_count{L} 1\n", "call_time_us_count{L} 2\n", "call_time_us_sum{L} 105\n",
        "call_time_us_bucket{L,le=\"7\"} 1\n", "call_time_us_bucket{L,le=\"+Inf\"} 2\n"}) {
    std::string wanted = prefix + line;
    wanted.replace(wanted.find('L'), 1, labels);
    EXPECT_THAT(page, HasSubstr("\n" + wanted));
  }
  EXPECT_THAT(page, HasSubstr("# TYPE " + prefix + "calls_count counter\n"));
  EXPECT_THAT(page, HasSubstr("# TYPE " + prefix + "call_time_us histogram\n"));
  EXPECT_THAT(page, Not(HasSubstr("unused")));
  EXPECT_THAT(page, Not(HasSubstr("batches")));
}

TEST(SignatureMetricsTest, BatchesShowWhereThereAreAny) {
  const auto servable = Model();
  SignatureStatistics& statistics = *servable->signatures().at("called").statistics;
  statistics.CallFinished(absl::OkStatus(), absl::Microseconds(5));
  statistics.BatchRun(3, 4);
  statistics.BatchRun(4, 4);
  statistics.BatchWaited(absl::Microseconds(50));
  const std::string page = SignatureMetricsText({servable});
  const std::string labels = R"({model_name="m",version="7",signature="called"} )";
  for (const char* line : {"batches_count|2\n", "rows_count|7\n", "padded_rows_count|1\n",
                           "batch_rows_count|2\n", "queue_time_us_sum|50\n"}) {
    std::string wanted = std::string("\n:tensorflow_ipu:signature:") + line;
    wanted.replace(wanted.find('|'), 1, labels);
    EXPECT_THAT(page, HasSubstr(wanted));
  }
}

TEST(SignatureMetricsTest, NothingForNoCalls) { EXPECT_EQ(SignatureMetricsText({Model()}), ""); }

}  // namespace
}  // namespace tfipu::serving
