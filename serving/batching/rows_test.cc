#include "serving/batching/rows.h"

#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::tstring;
using ::testing::ElementsAre;

Tensor Make(const TensorShape& shape, const std::vector<int>& values) {
  Tensor tensor(tensorflow::DT_INT32, shape);
  std::copy(values.begin(), values.end(), tensor.flat<int>().data());
  return tensor;
}

std::vector<int> Values(const Tensor& tensor) {
  const auto flat = tensor.flat<int>();
  return {flat.data(), flat.data() + flat.size()};
}

TEST(RowsTest, JoinsAndCopiesRows) {
  const Tensor a = Make({1, 2}, {1, 2}), b = Make({2, 2}, {3, 4, 5, 6});
  const auto joined = JoinRows({&a, &b}, 3);
  ASSERT_TRUE(joined.ok());
  EXPECT_EQ(joined->shape(), TensorShape({3, 2}));
  EXPECT_THAT(Values(*joined), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(Values(CopyRows(*joined, 1, 2)), ElementsAre(3, 4, 5, 6));
}

TEST(RowsTest, RepeatsTheFirstRowUpToTheWantedNumber) {
  const Tensor a = Make({1, 2}, {1, 2}), b = Make({1, 2}, {3, 4});
  EXPECT_THAT(Values(*JoinRows({&a, &b}, 4)), ElementsAre(1, 2, 3, 4, 1, 2, 1, 2));
}

TEST(RowsTest, FillsUpRowsOfDifferentShapesWithZeros) {
  const Tensor a = Make({1, 1, 2}, {1, 2}), b = Make({1, 2, 1}, {3, 4});
  const auto joined = JoinRows({&a, &b}, 3);
  ASSERT_TRUE(joined.ok());
  EXPECT_EQ(joined->shape(), TensorShape({3, 2, 2}));
  EXPECT_THAT(Values(*joined), ElementsAre(1, 2, 0, 0, 3, 0, 4, 0, 1, 2, 0, 0));
  const Tensor flat = Make({1}, {1});
  EXPECT_TRUE(absl::IsInvalidArgument(JoinRows({&a, &flat}, 2).status()));
}

TEST(RowsTest, ManyZerosAndImpossibleSizesAreErrors) {
  const Tensor tall(tensorflow::DT_INT8, {1, 10'000, 1}), wide(tensorflow::DT_INT8, {1, 1, 10'000});
  EXPECT_TRUE(absl::IsResourceExhausted(JoinRows({&tall, &wide}, 2).status()));
  const std::int64_t large = std::int64_t{1} << 40;
  const Tensor none_tall(tensorflow::DT_INT8, {0, large, 1}), none_wide(tensorflow::DT_INT8, {0, 1, large});
  EXPECT_TRUE(absl::IsResourceExhausted(JoinRows({&tall, &none_tall, &none_wide}, 1).status()));
  EXPECT_FALSE(JoinRows({&tall}, std::numeric_limits<std::int64_t>::max()).ok());
}

TEST(RowsTest, KeepsStrings) {
  Tensor a(tensorflow::DT_STRING, {1, 2}), b(tensorflow::DT_STRING, {1, 1});
  a.flat<tstring>()(0) = "one";
  a.flat<tstring>()(1) = "two";
  b.flat<tstring>()(0) = "three";
  const auto joined = JoinRows({&a, &b}, 2);
  ASSERT_TRUE(joined.ok());
  EXPECT_EQ(joined->flat<tstring>()(1), "two");
  EXPECT_EQ(joined->flat<tstring>()(2), "three");
  EXPECT_EQ(joined->flat<tstring>()(3), "");
}

}  // namespace
}  // namespace tfipu::serving
