#include "serving/monitoring/prometheus.h"

#include <cfloat>
#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu::serving {
namespace {

using tsl::monitoring::CollectedMetrics;
using tsl::monitoring::MetricDescriptor;
using tsl::monitoring::MetricKind;
using tsl::monitoring::Point;
using tsl::monitoring::PointSet;
using tsl::monitoring::ValueType;

Point* AddMetric(CollectedMetrics& metrics, const std::string& name, MetricKind kind, ValueType type) {
  auto descriptor = std::make_unique<MetricDescriptor>();
  descriptor->name = name;
  descriptor->metric_kind = kind;
  descriptor->value_type = type;
  metrics.metric_descriptor_map[name] = std::move(descriptor);
  auto& points = metrics.point_set_map[name];
  points = std::make_unique<PointSet>();
  points->points.push_back(std::make_unique<Point>());
  points->points.back()->value_type = type;
  return points->points.back().get();
}

TEST(PrometheusTest, WritesCountersGaugesAndHistograms) {
  CollectedMetrics metrics;
  Point* const counter = AddMetric(metrics, "/a/count", MetricKind::kCumulative, ValueType::kInt64);
  counter->labels = {{"model", "a \"b\"\\c\nd"}, {"my-status+1", "OK"}};
  counter->int64_value = 7;
  AddMetric(metrics, "/b-c_d/on", MetricKind::kGauge, ValueType::kBool)->bool_value = true;
  Point* const histogram = AddMetric(metrics, "/d", MetricKind::kCumulative, ValueType::kHistogram);
  histogram->labels = {{"model", "m"}};
  for (const double limit : {10.0, 32.4, DBL_MAX}) histogram->histogram_value.add_bucket_limit(limit);
  for (const double count : {1.0, 0.0, 2.0}) histogram->histogram_value.add_bucket(count);
  histogram->histogram_value.set_sum(123);
  AddMetric(metrics, "/text", MetricKind::kGauge, ValueType::kString);
  EXPECT_EQ(PrometheusTextOf(metrics),
            "# TYPE :a:count counter\n"
            ":a:count{model=\"a \\\"b\\\"\\\\c\\nd\",my_status_1=\"OK\"} 7\n"
            "# TYPE :b:c_d:on gauge\n"
            ":b:c_d:on{} 1\n"
            "# TYPE :d histogram\n"
            ":d_bucket{model=\"m\",le=\"10\"} 1\n"
            ":d_bucket{model=\"m\",le=\"32.4\"} 1\n"
            ":d_bucket{model=\"m\",le=\"+Inf\"} 3\n"
            ":d_sum{model=\"m\"} 123\n"
            ":d_count{model=\"m\"} 3\n");
}

}  // namespace
}  // namespace tfipu::serving
