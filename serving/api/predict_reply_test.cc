#include "serving/api/predict_reply.h"

#include <gtest/gtest.h>

#include "serving/api/sample_tensors.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow_serving/apis/predict.pb.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using tensorflow::TensorProto;
using tensorflow::serving::PredictResponse;

class PredictReplyTest : public testing::Test {
 protected:
  std::string Write(const std::vector<Tensor>& outputs, bool tensor_content) {
    std::vector<int> wanted;
    signature_.name = "serving_default";
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      signature_.outputs.push_back({"out" + std::to_string(i), "t:0", outputs[i].dtype(), {}, {}});
      wanted.push_back(static_cast<int>(i));
    }
    PredictReply reply(id_, signature_, wanted, outputs, tensor_content);
    std::size_t size = 0;
    EXPECT_TRUE(reply.Measure(&size).ok());
    std::string bytes(size + 1, '\x5a');
    reply.Write(bytes.data());
    EXPECT_EQ(bytes.back(), '\x5a') << "wrote too much";
    bytes.pop_back();
    return bytes;
  }

  const ServableId id_{"model", 300};
  Signature signature_;
};

TEST_F(PredictReplyTest, IsWhatProtobufWouldWrite) {
  std::vector<Tensor> outputs;
  for (tensorflow::DataType dtype : kTypes) {
    outputs.push_back(Sample(dtype, {2, 3}));
    outputs.push_back(Sample(dtype, {}));
    outputs.push_back(Sample(dtype, {3, 0, 2}));
    outputs.push_back(Sample(dtype, {130}));
  }
  for (bool tensor_content : {false, true}) {
    signature_.outputs.clear();
    PredictResponse response;
    ASSERT_TRUE(response.ParseFromString(Write(outputs, tensor_content)));
    EXPECT_EQ(response.model_spec().name(), "model");
    EXPECT_EQ(response.model_spec().version().value(), 300);
    EXPECT_EQ(response.model_spec().signature_name(), "serving_default");
    ASSERT_EQ(response.outputs_size(), static_cast<int>(outputs.size()));
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      TensorProto wanted;
      tensor_content ? outputs[i].AsProtoTensorContent(&wanted) : outputs[i].AsProtoField(&wanted);
      EXPECT_EQ(response.outputs().at("out" + std::to_string(i)).SerializeAsString(),
                wanted.SerializeAsString())
          << i;
    }
  }
}

}  // namespace
}  // namespace tfipu::serving
