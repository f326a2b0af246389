#include "serving/monitoring/request_metrics.h"

#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "serving/monitoring/prometheus.h"

namespace tfipu::serving {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(RequestMetricsTest, CountsAndTimesByModel) {
  RequestMetrics metrics;
  metrics.AddModel("m");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) {
        metrics.Finished(
            {"m", "Predict", "GRPC", absl::OkStatus(), absl::Microseconds(20), absl::Microseconds(5)});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  metrics.Finished({"m", "Classify", "REST", absl::InvalidArgumentError("bad"), absl::Microseconds(30), {}});
  // Counted as a request, but its time is of none of the known APIs.
  metrics.Finished({"m", "Explain", "GRPC", absl::OkStatus(), absl::Microseconds(20), absl::Microseconds(5)});
  metrics.Finished(
      {"m", "Classify", "REST", absl::OkStatus(), absl::Microseconds(30), {}, nullptr, /*examples=*/3});
  metrics.Finished(
      {"someone's invention", "Predict", "REST", absl::NotFoundError("no"), absl::Microseconds(1), {}});
  const std::string page = PrometheusText();
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_count{model_name=\"m\",status=\"OK\"} 402\n"));
  EXPECT_THAT(
      page, HasSubstr(":tensorflow:serving:request_count{model_name=\"m\",status=\"INVALID_ARGUMENT\"} 1\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_count{model_name=\"\",status=\"NOT_FOUND\"} 1\n"));
  EXPECT_THAT(page, Not(HasSubstr("someone")));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_latency_bucket{model_name=\"m\",API=\"Predict\","
                              "entrypoint=\"GRPC\",le=\"18\"} 0\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_latency_bucket{model_name=\"m\",API=\"Predict\","
                              "entrypoint=\"GRPC\",le=\"32.4\"} 400\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_latency_sum{model_name=\"m\",API=\"Predict\","
                              "entrypoint=\"GRPC\"} 8000\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_latency_count{model_name=\"m\",API=\"classify\","
                              "entrypoint=\"REST\"} 1\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:runtime_latency_count{model_name=\"m\",API=\"Predict\","
                              "runtime=\"TF1\"} 400\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_example_counts_bucket{model=\"m\",le=\"2\"} 0\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_example_counts_bucket{model=\"m\",le=\"4\"} 1\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_example_count_total{model=\"m\"} 3\n"));
}

}  // namespace
}  // namespace tfipu::serving
