#include "serving/batching/rows.h"

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
