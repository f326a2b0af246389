#include "serving/api/predict_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <complex>
#include <cstring>

#include "serving/api/fake_servable.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow_serving/apis/predict.pb.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using tensorflow::TensorProto;
using tensorflow::TensorShape;
using tensorflow::serving::PredictRequest;
using tensorflow::serving::PredictResponse;
using testing::HasSubstr;

std::vector<Slice> Cut(const std::string& bytes, std::size_t slice) {
  std::vector<Slice> slices;
  for (std::size_t at = 0; at < bytes.size(); at += slice) {
    slices.push_back({bytes.data() + at, std::min(slice, bytes.size() - at)});
  }
  return slices;
}

absl::Status ParseBytes(const std::string& bytes, PredictCall* call, std::size_t slice = 1 << 20) {
  return ParsePredictRequest(Cut(bytes, slice), call);
}

absl::StatusOr<Tensor> ParseTensor(const TensorProto& proto, std::size_t slice = 1 << 20) {
  PredictRequest request;
  (*request.mutable_inputs())["x"] = proto;
  PredictCall call;
  absl::Status status = ParseBytes(request.SerializeAsString(), &call, slice);
  if (!status.ok()) return status;
  return call.inputs[0].second;
}

void ExpectSame(const Tensor& got, const Tensor& wanted) {
  ASSERT_EQ(got.dtype(), wanted.dtype());
  ASSERT_EQ(got.shape(), wanted.shape());
  if (wanted.dtype() == tensorflow::DT_STRING) {
    for (int i = 0; i < wanted.NumElements(); ++i) {
      EXPECT_EQ(got.flat<tensorflow::tstring>()(i), wanted.flat<tensorflow::tstring>()(i));
    }
  } else {
    EXPECT_EQ(got.tensor_data(), wanted.tensor_data());
  }
}

// A tensor whose bytes are all different small values.
Tensor Sample(tensorflow::DataType dtype, const TensorShape& shape) {
  Tensor tensor(dtype, shape);
  if (dtype == tensorflow::DT_STRING) {
    for (int i = 0; i < tensor.NumElements(); ++i)
      tensor.flat<tensorflow::tstring>()(i) = std::string(i * 7, 'a' + i);
    return tensor;
  }
  auto* bytes = static_cast<unsigned char*>(tensor.data());
  for (std::size_t i = 0; i < tensor.TotalBytes(); ++i) {
    bytes[i] = dtype == tensorflow::DT_BOOL ? i % 2 : (i * 37 + 130) % 251;
  }
  return tensor;
}

constexpr tensorflow::DataType kTypes[] = {
    tensorflow::DT_FLOAT,  tensorflow::DT_DOUBLE, tensorflow::DT_INT32,      tensorflow::DT_UINT8,
    tensorflow::DT_INT16,  tensorflow::DT_INT8,   tensorflow::DT_STRING,     tensorflow::DT_COMPLEX64,
    tensorflow::DT_INT64,  tensorflow::DT_BOOL,   tensorflow::DT_BFLOAT16,   tensorflow::DT_UINT16,
    tensorflow::DT_UINT32, tensorflow::DT_UINT64, tensorflow::DT_COMPLEX128, tensorflow::DT_HALF};

TEST(ParsePredictRequest, ReadsEveryTypeInBothForms) {
  for (tensorflow::DataType dtype : kTypes) {
    SCOPED_TRACE(tensorflow::DataTypeString(dtype));
    for (const TensorShape& shape : {TensorShape({2, 3}), TensorShape({}), TensorShape({0, 4})}) {
      const Tensor wanted = Sample(dtype, shape);
      for (bool content : {false, true}) {
        TensorProto proto;
        content ? wanted.AsProtoTensorContent(&proto) : wanted.AsProtoField(&proto);
        for (std::size_t slice : {std::size_t{1}, std::size_t{3}, std::size_t{1} << 20}) {
          auto got = ParseTensor(proto, slice);
          ASSERT_TRUE(got.ok()) << got.status();
          ExpectSame(*got, wanted);
        }
      }
    }
  }
}

TEST(ParsePredictRequest, RepeatsTheLastOfTooFewValues) {
  TensorProto proto;
  proto.mutable_tensor_shape()->add_dim()->set_size(3);
  proto.set_dtype(tensorflow::DT_INT64);
  proto.add_int64_val(4);
  proto.add_int64_val(-5);
  auto got = ParseTensor(proto);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->flat<std::int64_t>()(0), 4);
  EXPECT_EQ(got->flat<std::int64_t>()(2), -5);

  proto.Clear();
  proto.mutable_tensor_shape()->add_dim()->set_size(3);
  proto.set_dtype(tensorflow::DT_STRING);
  proto.add_string_val("one");
  got = ParseTensor(proto);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->flat<tensorflow::tstring>()(2), "one");
}

TEST(ParsePredictRequest, MakesBoolsOfAnyBytes) {
  TensorProto proto;
  proto.mutable_tensor_shape()->add_dim()->set_size(3);
  proto.set_dtype(tensorflow::DT_BOOL);
  proto.set_tensor_content(std::string("\x00\x81\x02", 3));
  for (std::size_t slice : {std::size_t{1}, std::size_t{100}}) {
    auto got = ParseTensor(proto, slice);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(got->tensor_data(), std::string("\0\1\1", 3));
  }
}

TEST(ParsePredictRequest, TakesFieldsInAnyOrder) {
  TensorProto values, rest;
  values.set_tensor_content(std::string("\0\0\x80\x3f\0\0\0\x40", 8));
  rest.set_dtype(tensorflow::DT_FLOAT);
  rest.mutable_tensor_shape()->add_dim()->set_size(2);
  const std::string tensor = values.SerializeAsString() + rest.SerializeAsString();
  const std::string entry =
      std::string("\x12") + static_cast<char>(tensor.size()) + tensor + std::string("\x0a\x01x");
  PredictCall call;
  absl::Status status = ParseBytes(std::string("\x12") + static_cast<char>(entry.size()) + entry, &call);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(call.inputs.size(), 1u);
  EXPECT_EQ(call.inputs[0].first, "x");
  EXPECT_EQ(call.inputs[0].second.flat<float>()(1), 2.0f);
}

TEST(ParsePredictRequest, ReadsModelSpecAndFilter) {
  PredictRequest request;
  request.mutable_model_spec()->set_name("m");
  request.mutable_model_spec()->mutable_version()->set_value(7);
  request.mutable_model_spec()->set_signature_name("s");
  request.add_output_filter("a");
  request.add_output_filter("b");
  request.set_client_id("someone");
  PredictCall call;
  ASSERT_TRUE(ParseBytes(request.SerializeAsString(), &call).ok());
  EXPECT_TRUE(call.has_model_spec);
  EXPECT_EQ(call.model.name, "m");
  EXPECT_EQ(call.model.version, 7);
  EXPECT_EQ(call.signature_name, "s");
  EXPECT_EQ(call.output_filter, (std::vector<std::string>{"a", "b"}));

  request.mutable_model_spec()->set_version_label("canary");
  PredictCall labelled;
  ASSERT_TRUE(ParseBytes(request.SerializeAsString(), &labelled).ok());
  EXPECT_FALSE(labelled.model.version.has_value());
  EXPECT_EQ(labelled.model.label, "canary");
}

TEST(ParsePredictRequest, RefusesImpossibleTensors) {
  struct Case {
    const char* what;
    std::vector<std::int64_t> dims;
    tensorflow::DataType dtype;
    const char* message;
  };
  const Case cases[] = {
      {"negative", {-1}, tensorflow::DT_FLOAT, "Input \"x\""},
      {"overflow", {std::int64_t{1} << 40, std::int64_t{1} << 40}, tensorflow::DT_FLOAT, "Input \"x\""},
      {"255 dimensions", std::vector<std::int64_t>(255, 1), tensorflow::DT_FLOAT, "Input \"x\""},
      {"zeros without end", {std::int64_t{1} << 40}, tensorflow::DT_FLOAT, "repeating the last"},
      {"strings without end", {std::int64_t{1} << 40}, tensorflow::DT_STRING, "repeating the last"},
      {"resource", {1}, tensorflow::DT_RESOURCE, "cannot be sent"},
      {"variant", {1}, tensorflow::DT_VARIANT, "cannot be sent"},
      {"reference", {1}, tensorflow::DT_FLOAT_REF, "cannot be sent"},
      {"no type", {1}, tensorflow::DT_INVALID, "cannot be sent"},
      {"unknown type", {1}, static_cast<tensorflow::DataType>(99), "cannot be sent"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.what);
    TensorProto proto;
    proto.set_dtype(test.dtype);
    for (std::int64_t size : test.dims) proto.mutable_tensor_shape()->add_dim()->set_size(size);
    for (bool content : {false, true}) {
      if (content) proto.set_tensor_content("1234567");
      auto got = ParseTensor(proto);
      ASSERT_FALSE(got.ok());
      EXPECT_EQ(got.status().code(), absl::StatusCode::kInvalidArgument);
      if (!content) {
        EXPECT_THAT(std::string(got.status().message()), HasSubstr(test.message));
      }
    }
  }
  TensorProto proto;
  proto.set_dtype(tensorflow::DT_FLOAT);
  proto.mutable_tensor_shape()->set_unknown_rank(true);
  EXPECT_FALSE(ParseTensor(proto).ok());
}

// Truncations and every changed byte: an answer, whatever it is, and no crash.
TEST(ParsePredictRequest, SurvivesDamage) {
  PredictRequest request;
  request.mutable_model_spec()->set_name("model");
  for (tensorflow::DataType dtype : kTypes) {
    Sample(dtype, {2}).AsProtoField(&(*request.mutable_inputs())[tensorflow::DataTypeString(dtype)]);
  }
  const std::string good = request.SerializeAsString();
  for (std::size_t size = 0; size < good.size(); ++size) {
    PredictCall call;
    (void)ParseBytes(good.substr(0, size), &call);
  }
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (int change : {0x01, 0x08, 0x80, 0xff}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ change);
      PredictCall whole, cut;
      const absl::Status a = ParseBytes(bad, &whole);
      const absl::Status b = ParseBytes(bad, &cut, 5);
      EXPECT_EQ(a.ok(), b.ok()) << i << " ^ " << change << ": " << a << " against " << b;
    }
  }
}

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
