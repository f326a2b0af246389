#include "serving/api/predict_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serving/api/sample_tensors.h"
#include "serving/api/tensor_wire.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow_serving/apis/predict.pb.h"

namespace tfipu::serving {
namespace {

using tensorflow::Tensor;
using tensorflow::TensorProto;
using tensorflow::TensorShape;
using tensorflow::tstring;
using tensorflow::serving::PredictRequest;
using testing::HasSubstr;

constexpr std::size_t kWhole = 1 << 20;

std::vector<Slice> Cut(const std::string& bytes, std::size_t slice) {
  std::vector<Slice> slices;
  for (std::size_t at = 0; at < bytes.size(); at += slice) {
    slices.push_back({bytes.data() + at, std::min(slice, bytes.size() - at)});
  }
  return slices;
}

Signature OneInput(tensorflow::DataType dtype) {
  Signature signature;
  signature.inputs.push_back({"x", "x:0", dtype, {}, {}});
  signature.outputs.push_back({"y", "y:0", dtype, {}, {}});
  return signature;
}

absl::StatusOr<Tensor> ReadBytes(const std::string& bytes, tensorflow::DataType dtype,
                                 std::size_t slice = kWhole) {
  PredictInputs inputs;
  absl::Status status = ReadPredictInputs(Cut(bytes, slice), OneInput(dtype), &inputs);
  if (!status.ok()) return status;
  return inputs.inputs.at(0);
}

absl::StatusOr<Tensor> Read(const TensorProto& proto, tensorflow::DataType dtype,
                            std::size_t slice = kWhole) {
  PredictRequest request;
  (*request.mutable_inputs())["x"] = proto;
  return ReadBytes(request.SerializeAsString(), dtype, slice);
}

void ExpectSame(const Tensor& got, const Tensor& wanted) {
  ASSERT_EQ(got.dtype(), wanted.dtype());
  ASSERT_EQ(got.shape(), wanted.shape());
  if (wanted.dtype() == tensorflow::DT_STRING) {
    for (int i = 0; i < wanted.NumElements(); ++i)
      EXPECT_EQ(got.flat<tstring>()(i), wanted.flat<tstring>()(i));
  } else {
    EXPECT_EQ(got.tensor_data(), wanted.tensor_data());
  }
}

// A tensor of `field` (number and wire type in one) with these bytes, and a shape and a type before or behind
// it.
std::string RawTensor(tensorflow::DataType dtype, std::int64_t size, const std::string& values,
                      bool values_first) {
  TensorProto rest;
  rest.set_dtype(dtype);
  rest.mutable_tensor_shape()->add_dim()->set_size(size);
  return values_first ? values + rest.SerializeAsString() : rest.SerializeAsString() + values;
}

std::string RawRequest(const std::string& tensor) {
  EXPECT_LT(tensor.size(), 100);
  const std::string entry = std::string("\x0a\x01x\x12") + static_cast<char>(tensor.size()) + tensor;
  return std::string("\x12") + static_cast<char>(entry.size()) + entry;
}

TEST(ReadPredictInputs, ReadsEveryTypeInBothForms) {
  for (tensorflow::DataType dtype : kTypes) {
    SCOPED_TRACE(tensorflow::DataTypeString(dtype));
    for (const TensorShape& shape : {TensorShape({2, 3}), TensorShape({}), TensorShape({0, 4})}) {
      const Tensor wanted = Sample(dtype, shape);
      for (bool content : {false, true}) {
        TensorProto proto;
        content ? wanted.AsProtoTensorContent(&proto) : wanted.AsProtoField(&proto);
        for (std::size_t slice : {std::size_t{1}, std::size_t{3}, kWhole}) {
          auto got = Read(proto, dtype, slice);
          ASSERT_TRUE(got.ok()) << got.status();
          ExpectSame(*got, wanted);
        }
      }
    }
  }
}

// As TensorFlow reads them: too few values, none, too many; the latter two need not be the types' own count.
TEST(ReadPredictInputs, AgreesWithTensorFlowOnAnyNumberOfValues) {
  for (tensorflow::DataType dtype : kTypes) {
    SCOPED_TRACE(tensorflow::DataTypeString(dtype));
    for (const int given : {0, 1, 2, 5, 9}) {
      TensorProto proto;
      Sample(dtype, {given}).AsProtoField(&proto);
      for (const int size : {1, 5, 7, 64}) {
        proto.mutable_tensor_shape()->mutable_dim(0)->set_size(size);
        Tensor wanted;
        ASSERT_TRUE(wanted.FromProto(proto));
        for (std::size_t slice : {std::size_t{3}, kWhole}) {
          auto got = Read(proto, dtype, slice);
          ASSERT_TRUE(got.ok()) << got.status();
          ExpectSame(*got, wanted);
        }
      }
    }
  }
}

TEST(ReadPredictInputs, ReadsValuesPackedOrNotInAnyOrder) {
  const std::string packed("\x52\x02\x04\x05", 4), single("\x50\x06", 2);
  for (const bool first : {false, true}) {
    for (std::size_t slice : {std::size_t{1}, kWhole}) {
      auto got = ReadBytes(RawRequest(RawTensor(tensorflow::DT_INT64, 4, packed + single, first)),
                           tensorflow::DT_INT64, slice);
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_EQ(got->DebugString(), "Tensor<type: int64 shape: [4] values: 4 5 6...>");
      EXPECT_EQ(got->flat<std::int64_t>()(3), 6);
    }
  }
  auto floats =
      ReadBytes(RawRequest(RawTensor(tensorflow::DT_FLOAT, 2, std::string("\x2d\0\0\x80\x3f", 5), true)),
                tensorflow::DT_FLOAT);
  ASSERT_TRUE(floats.ok()) << floats.status();
  EXPECT_EQ(floats->flat<float>()(1), 1.0f);
}

TEST(ReadPredictInputs, TakesTheNameBehindTheTensor) {
  TensorProto proto;
  Tensor(2.0f).AsProtoField(&proto);
  const std::string tensor = proto.SerializeAsString();
  const std::string entry =
      std::string("\x12") + static_cast<char>(tensor.size()) + tensor + std::string("\x0a\x01x");
  auto got = ReadBytes(std::string("\x12") + static_cast<char>(entry.size()) + entry, tensorflow::DT_FLOAT);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->scalar<float>()(), 2.0f);
}

// As in any map field.
TEST(ReadPredictInputs, TheLastOfTwoEntriesCounts) {
  TensorProto one, two;
  Tensor(1.0f).AsProtoField(&one);
  Tensor(2.0f).AsProtoField(&two);
  auto got = ReadBytes(RawRequest(one.SerializeAsString()) + RawRequest(two.SerializeAsString()),
                       tensorflow::DT_FLOAT);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->scalar<float>()(), 2.0f);
}

TEST(ReadPredictInputs, MakesBoolsOfAnyBytes) {
  TensorProto proto;
  proto.mutable_tensor_shape()->add_dim()->set_size(3);
  proto.set_dtype(tensorflow::DT_BOOL);
  proto.set_tensor_content(std::string("\x00\x81\x02", 3));
  for (std::size_t slice : {std::size_t{1}, kWhole}) {
    auto got = Read(proto, tensorflow::DT_BOOL, slice);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(got->tensor_data(), std::string("\0\1\1", 3));
  }
}

// As in TensorFlow, it does not matter beside sizes, and none are a scalar.
TEST(ReadPredictInputs, TakesUnknownRankAsTheSizesThatAreThere) {
  TensorProto proto;
  proto.set_dtype(tensorflow::DT_FLOAT);
  proto.add_float_val(3);
  proto.mutable_tensor_shape()->set_unknown_rank(true);
  auto got = Read(proto, tensorflow::DT_FLOAT);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->scalar<float>()(), 3);
  proto.mutable_tensor_shape()->add_dim()->set_size(2);
  got = Read(proto, tensorflow::DT_FLOAT);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->shape(), TensorShape({2}));
}

TEST(ReadPredictInputs, RefusesImpossibleTensors) {
  struct Case {
    const char* what;
    std::vector<std::int64_t> dims;
    tensorflow::DataType dtype;
    const char* message;
  };
  const std::int64_t much = std::int64_t{1} << 40;
  const Case cases[] = {
      {"negative", {-1}, tensorflow::DT_FLOAT, "Input \"x\""},
      {"overflow", {much, much}, tensorflow::DT_FLOAT, "Input \"x\""},
      {"255 dimensions", std::vector<std::int64_t>(255, 1), tensorflow::DT_FLOAT, "Input \"x\""},
      {"zeros without end", {much}, tensorflow::DT_FLOAT, "repeating the last"},
      {"bytes without end", {much}, tensorflow::DT_INT8, "repeating the last"},
      {"strings without end", {much}, tensorflow::DT_STRING, "repeating the last"},
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
      auto got = Read(proto, test.dtype);
      ASSERT_FALSE(got.ok());
      EXPECT_EQ(got.status().code(), absl::StatusCode::kInvalidArgument);
      if (!content) {
        EXPECT_THAT(std::string(got.status().message()), HasSubstr(test.message));
      }
    }
  }
}

// One string of 1 MB and a shape of a million would be a terabyte; what counts is what strings hold.
TEST(ReadPredictInputs, CountsWhatRepeatedStringsHold) {
  TensorProto proto;
  proto.set_dtype(tensorflow::DT_STRING);
  proto.add_string_val(std::string(1 << 20, 'x'));
  auto* const dim = proto.mutable_tensor_shape()->add_dim();
  for (const std::int64_t size : {300, 1 << 20}) {
    dim->set_size(size);
    EXPECT_TRUE(absl::IsInvalidArgument(Read(proto, tensorflow::DT_STRING).status()));
  }
  dim->set_size(200);
  auto got = Read(proto, tensorflow::DT_STRING);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->flat<tstring>()(199).size(), 1 << 20);
}

// All inputs of a request together, as each could be just below the bound.
TEST(ReadPredictInputs, CountsRepeatedValuesOfAllInputs) {
  Signature signature;
  PredictRequest request;
  TensorProto proto;
  proto.set_dtype(tensorflow::DT_DOUBLE);
  proto.mutable_tensor_shape()->add_dim()->set_size(12 << 20);
  for (const char* alias : {"a", "b", "c"}) {
    signature.inputs.push_back({alias, alias, tensorflow::DT_DOUBLE, {}, {}});
    (*request.mutable_inputs())[alias] = proto;
  }
  signature.outputs.push_back({"y", "y:0", tensorflow::DT_FLOAT, {}, {}});
  PredictInputs inputs;
  absl::Status status = ReadPredictInputs(Cut(request.SerializeAsString(), kWhole), signature, &inputs);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("Input \"c\""));
  EXPECT_TRUE(inputs.inputs.empty()) << "tensors were made before all of them were checked";
}

// Each request may be below its bound, and all of them together take everything.
TEST(ReadPredictInputs, CountsRepeatedValuesOfAllRequestsThatAreBeingAnswered) {
  TensorProto proto;
  proto.set_dtype(tensorflow::DT_STRING);
  proto.add_string_val(std::string(1 << 20, 'x'));
  proto.mutable_tensor_shape()->add_dim()->set_size(3);
  RepeatedBytes others;
  ASSERT_TRUE(others.Take(kMaxRepeatedBytesInAll - (1 << 20)).ok());
  const absl::Status full = Read(proto, tensorflow::DT_STRING).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  // A request that brings what it holds is not concerned.
  TensorProto whole;
  Sample(tensorflow::DT_FLOAT, {1000}).AsProtoField(&whole);
  EXPECT_TRUE(Read(whole, tensorflow::DT_FLOAT).ok());
  { RepeatedBytes gone = std::move(others); }
  for (int i = 0; i < 600; ++i)
    ASSERT_TRUE(Read(proto, tensorflow::DT_STRING).ok()) << "a share was not given back";
}

// Neither what is not the signature's nor what is of another type costs memory: these would take a terabyte,
// and are refused for what they are.
TEST(ReadPredictInputs, LooksAtNamesAndTypesBeforeItFills) {
  TensorProto huge;
  huge.set_dtype(tensorflow::DT_DOUBLE);
  huge.mutable_tensor_shape()->add_dim()->set_size(std::int64_t{1} << 37);
  auto got = Read(huge, tensorflow::DT_FLOAT);
  EXPECT_THAT(std::string(got.status().message()), HasSubstr("expected to be float but double is provided"));
  PredictRequest request;
  Tensor(1.0f).AsProtoField(&(*request.mutable_inputs())["x"]);
  (*request.mutable_inputs())["other"] = huge;
  got = ReadBytes(request.SerializeAsString(), tensorflow::DT_FLOAT);
  EXPECT_THAT(std::string(got.status().message()), HasSubstr("alias not found in signature: other"));
}

TEST(ReadPredictInputs, OrdersInputsAndFillsInDefaults) {
  Signature signature;
  signature.inputs.push_back({"a", "a:0", tensorflow::DT_FLOAT, {}, {}});
  signature.inputs.push_back({"b", "b:0", tensorflow::DT_INT32, {}, Tensor(7)});
  signature.outputs.push_back({"y", "y:0", tensorflow::DT_FLOAT, {}, {}});
  signature.outputs.push_back({"z", "z:0", tensorflow::DT_FLOAT, {}, {}});
  PredictRequest request;
  const auto read = [&](PredictInputs* inputs) {
    return ReadPredictInputs(Cut(request.SerializeAsString(), kWhole), signature, inputs);
  };
  PredictInputs inputs, filtered, given;
  EXPECT_THAT(std::string(read(&inputs).message()),
              HasSubstr("Signature input alias: a(feed name: a:0) not found"));
  Tensor(1.5f).AsProtoField(&(*request.mutable_inputs())["a"]);
  ASSERT_TRUE(read(&inputs).ok());
  EXPECT_EQ(inputs.inputs.at(0).scalar<float>()(), 1.5f);
  EXPECT_EQ(inputs.inputs.at(1).scalar<int>()(), 7);
  EXPECT_THAT(inputs.outputs, testing::ElementsAre(0, 1));
  Tensor(8).AsProtoField(&(*request.mutable_inputs())["b"]);
  request.add_output_filter("z");
  ASSERT_TRUE(read(&filtered).ok());
  EXPECT_EQ(filtered.inputs.at(1).scalar<int>()(), 8);
  EXPECT_THAT(filtered.outputs, testing::ElementsAre(1));
  request.add_output_filter("y");
  ASSERT_TRUE(read(&given).ok());
  EXPECT_THAT(given.outputs, testing::ElementsAre(0, 1));
  request.add_output_filter("y");
  EXPECT_EQ(read(&given).message(), "duplicate output tensor alias: y");
  request.set_output_filter(2, "w");
  EXPECT_THAT(std::string(read(&given).message()),
              HasSubstr("output tensor alias not found in signature: w"));
}

TEST(ParsePredictTarget, ReadsModelSpec) {
  PredictRequest request;
  request.mutable_model_spec()->set_name("m");
  request.mutable_model_spec()->mutable_version()->set_value(7);
  request.mutable_model_spec()->set_signature_name("s");
  request.add_output_filter("a");
  request.set_client_id("someone");
  PredictTarget target;
  ASSERT_TRUE(ParsePredictTarget(Cut(request.SerializeAsString(), 5), &target).ok());
  EXPECT_TRUE(target.has_model_spec);
  EXPECT_EQ(target.model.name, "m");
  EXPECT_EQ(target.model.version, 7);
  EXPECT_EQ(target.signature_name, "s");

  request.mutable_model_spec()->set_version_label("canary");
  PredictTarget labelled;
  ASSERT_TRUE(ParsePredictTarget(Cut(request.SerializeAsString(), kWhole), &labelled).ok());
  EXPECT_FALSE(labelled.model.version.has_value());
  EXPECT_EQ(labelled.model.label, "canary");
}

// Any of the message's strings, as protobuf would refuse them.
TEST(UnlessMalformed, KnowsStringsThatAreNotUtf8) {
  PredictRequest good;
  good.mutable_model_spec()->set_name("NAME");
  good.mutable_model_spec()->set_signature_name("SIGNATURE");
  good.add_output_filter("FILTER");
  TensorProto& tensor = (*good.mutable_inputs())["INPUT"];
  Tensor(1.0f).AsProtoField(&tensor);
  tensor.mutable_tensor_shape()->add_dim()->set_name("DIMENSION");
  PredictRequest labelled = good;
  labelled.mutable_model_spec()->set_version_label("LABEL");
  const absl::Status other = absl::NotFoundError("no such model");
  EXPECT_EQ(UnlessMalformed(Cut(labelled.SerializeAsString(), kWhole), other), other);
  for (const char* word : {"NAME", "SIGNATURE", "FILTER", "INPUT", "DIMENSION", "LABEL"}) {
    SCOPED_TRACE(word);
    std::string bytes = labelled.SerializeAsString();
    bytes[bytes.find(word)] = '\xff';
    PredictTarget target;
    absl::Status status = ParsePredictTarget(Cut(bytes, kWhole), &target);
    if (status.ok()) status = UnlessMalformed(Cut(bytes, kWhole), other);
    EXPECT_TRUE(absl::IsInternal(status)) << status;
    EXPECT_THAT(std::string(status.message()), testing::Not(HasSubstr(word + 1)));
  }
}

// Truncations and every changed byte: an answer, whatever it is, and no crash.
TEST(ReadPredictInputs, SurvivesDamage) {
  Signature signature;
  PredictRequest request;
  request.mutable_model_spec()->set_name("model");
  for (tensorflow::DataType dtype : kTypes) {
    signature.inputs.push_back({tensorflow::DataTypeString(dtype), "t:0", dtype, {}, Tensor(dtype, {})});
  }
  std::sort(signature.inputs.begin(), signature.inputs.end(),
            [](const SignatureTensor& a, const SignatureTensor& b) { return a.alias < b.alias; });
  for (const SignatureTensor& input : signature.inputs) {
    Sample(input.dtype, {2}).AsProtoField(&(*request.mutable_inputs())[input.alias]);
  }
  const std::string good = request.SerializeAsString();
  const auto read = [&](const std::string& bytes, std::size_t slice) {
    PredictTarget target;
    PredictInputs inputs;
    const std::vector<Slice> slices = Cut(bytes, slice);
    absl::Status status = ParsePredictTarget(slices, &target);
    if (status.ok()) status = ReadPredictInputs(slices, signature, &inputs);
    return status;
  };
  ASSERT_TRUE(read(good, kWhole).ok()) << read(good, kWhole);
  for (std::size_t size = 0; size < good.size(); ++size) (void)read(good.substr(0, size), kWhole);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (int change : {0x01, 0x08, 0x80, 0xff}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ change);
      const absl::Status a = read(bad, kWhole);
      const absl::Status b = read(bad, 5);
      EXPECT_EQ(a.code(), b.code()) << i << " ^ " << change << ": " << a << " against " << b;
    }
  }
}

}  // namespace
}  // namespace tfipu::serving
