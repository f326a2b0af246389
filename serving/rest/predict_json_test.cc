#include "serving/rest/predict_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "serving/rest/predict_reply_json.h"
#include "serving/rest/test_signature.h"

namespace tfipu::serving {
namespace {

using tensorflow::DataType;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::tstring;
using testing::HasSubstr;

absl::Status Parse(const Signature& signature, const std::string& body, PredictJsonRequest* request,
                   int depth = 300) {
  return ParsePredictJson(
      body, [&](absl::string_view) { return &signature; }, depth, request);
}

// The only input of type `dtype`, from a request.
absl::StatusOr<Tensor> ParseOne(DataType dtype, const std::string& body) {
  const Signature signature = TestSignature("s", {{"x", dtype}}, {{"y", dtype}});
  PredictJsonRequest request;
  absl::Status status = Parse(signature, body, &request);
  if (!status.ok()) return status;
  EXPECT_EQ(request.inputs.size(), 1);
  EXPECT_EQ(request.inputs[0].dtype(), dtype);
  return request.inputs[0];
}

// What a tensor is, and what it is written as.
std::string Shown(const Tensor& tensor) {
  const Signature signature = TestSignature("s", {}, {{"y", tensor.dtype()}});
  std::string body;
  EXPECT_TRUE(WritePredictJson(signature, PredictFormat::kColumns, {tensor}, &body).ok());
  return absl::StrCat(tensor.shape().DebugString(), " ", body.substr(12, body.size() - 13));
}

std::string ReadBack(DataType dtype, const std::string& body) {
  auto tensor = ParseOne(dtype, body);
  return tensor.ok() ? Shown(*tensor) : std::string(tensor.status().message());
}

bool Refused(DataType dtype, const std::string& body) {
  auto tensor = ParseOne(dtype, body);
  if (tensor.ok()) return false;
  EXPECT_EQ(tensor.status().code(), absl::StatusCode::kInvalidArgument) << tensor.status();
  EXPECT_FALSE(tensor.status().message().empty());
  return true;
}

constexpr DataType kFloat = tensorflow::DT_FLOAT;

TEST(PredictJsonTest, ShapesOfRowsAndColumns) {
  EXPECT_EQ(ReadBack(kFloat, R"({"instances": [1.0, 2, 5e0]})"), "[3] [1.0, 2.0, 5.0]");
  EXPECT_EQ(ReadBack(kFloat, R"({"instances": [{"x": 1}, {"x": 2.5}]})"), "[2] [1.0, 2.5]");
  EXPECT_EQ(ReadBack(kFloat, R"({"instances": [{"x": [1, 2]}, {"x": [3, 4]}]})"),
            "[2,2] [[1.0, 2.0], [3.0, 4.0]]");
  EXPECT_EQ(ReadBack(kFloat, R"({"inputs": {"x": [[1, 2, 3]]}})"), "[1,3] [[1.0, 2.0, 3.0]]");
  EXPECT_EQ(ReadBack(kFloat, R"({"inputs": [[[1], [2]]]})"), "[1,2,1] [[[1.0], [2.0]]]");
  EXPECT_EQ(ReadBack(kFloat, R"({"inputs": 3})"), "[] 3.0");
  EXPECT_EQ(ReadBack(kFloat, R"({"inputs": {"x": 3}})"), "[] 3.0");
  EXPECT_EQ(ReadBack(kFloat, R"({"inputs": []})"), "[0] []");
  EXPECT_EQ(ReadBack(kFloat, R"({"inputs": [[], []]})"), "[2,0] [[], []]");
  EXPECT_EQ(ReadBack(kFloat, R"({"inputs": [[[]], [[]]]})"), "[2,1,0] [[[]], [[]]]");
  EXPECT_EQ(ReadBack(kFloat, "{\"instances\" :\n[ 1 ,\t2\r\n, 3 ] }"), "[3] [1.0, 2.0, 3.0]");
  EXPECT_EQ(ReadBack(kFloat, R"({"instances":[1.0],"whatever":[{"a":7}]})"), "[1] [1.0]");
  EXPECT_EQ(ReadBack(kFloat, "\xEF\xBB\xBF{\"instances\": [1]}"), "[1] [1.0]");
}

TEST(PredictJsonTest, RefusesWhatIsNotRectangular) {
  for (const char* values :
       {"[[1.0], [2.0, 3.0]]", "[1, [2]]", "[[1], 2]", "[[1], []]", "[[], [1]]", "[[[1], [2]], [[3]]]",
        "[[[]], []]", "[[], [[]]]", "[[1], [[1]]]", "[[1, [2]]]"}) {
    EXPECT_TRUE(Refused(kFloat, absl::StrCat("{\"instances\": ", values, "}"))) << values;
    EXPECT_TRUE(Refused(kFloat, absl::StrCat("{\"inputs\": ", values, "}"))) << values;
  }
  EXPECT_TRUE(Refused(kFloat, R"({"instances": [{"x": [1]}, {"x": [1, 2]}]})"));
  EXPECT_TRUE(Refused(kFloat, R"({"instances": [{"x": [1]}, {"x": 1}]})"));
}

TEST(PredictJsonTest, RefusesMalformedRequests) {
  for (const char* body : {"",
                           "  ",
                           "hello",
                           "{}",
                           "[]",
                           "[1.0]",
                           "{\"instances\": [1.0,",
                           "{\"instances\": [1.0,]}",
                           "{\"instances\": []}",
                           "{\"instances\": {\"x\": [1.0]}}",
                           "{\"instances\": 1}",
                           "{\"instances\": [1.0]} x",
                           "{\"instances\": [,1]}",
                           "{\"instances\": [1.0], \"instances\": [2.0]}",
                           "{\"instances\": [1.0], \"inputs\": [2.0]}",
                           "{\"instances\": [1.0], \"signature_name\": 3}",
                           "{\"signature_name\": \"a\", \"signature_name\": \"a\", \"inputs\": [1]}",
                           "{\"instances\": [{\"x\": 1.0, \"z\": 1.0}]}",
                           "{\"instances\": [{}]}",
                           "{\"instances\": [{\"x\": 1}, 2]}",
                           "{\"instances\": [{\"x\": 1, \"x\": 2}]}",
                           "{\"instances\": [{\"x\": 1}, {\"x\": 1, \"x\": 2}]}",
                           "{\"inputs\": {\"z\": [1]}}",
                           "{\"inputs\": {\"x\": [1], \"x\": [1]}}",
                           "{\"inputs\": {}}",
                           "{\"instances\": [null]}",
                           "{\"instances\": [true]}",
                           "{\"instances\": [\"1.0\"]}",
                           "{\"instances\": [{\"b64\": \"AA==\"}]}",
                           "{\"instances\": [1.0 2.0]}",
                           "{\"instances\": [01]}",
                           "{\"instances\": [nan]}",
                           "{\"instances\": [1e400]}",
                           "{\"instances\": [1}"}) {
    EXPECT_TRUE(Refused(kFloat, body)) << body;
  }
}

TEST(PredictJsonTest, ChecksWithoutAModel) {
  for (const char* body :
       {"{}", R"({"instances": "anything"})", R"({"signature_name": "x", "a": [{"b": 1}]})"}) {
    EXPECT_TRUE(CheckPredictJson(body, 10).ok()) << body;
  }
  for (const char* body : {"", "hello", "[]", "{} x", R"({"instances": [1)", R"({"signature_name": 3})",
                           R"({"a": [[[[[[[[[[[1]]]]]]]]]]]})"}) {
    const absl::Status status = CheckPredictJson(body, 10);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << body;
    EXPECT_FALSE(status.message().empty());
  }
}

TEST(PredictJsonTest, NamesWhatWasWrong) {
  EXPECT_THAT(ReadBack(kFloat, ""), HasSubstr("The document is empty"));
  EXPECT_THAT(ReadBack(kFloat, "{}"), HasSubstr("Missing 'inputs' or 'instances' key"));
  EXPECT_THAT(ReadBack(kFloat, "{\"instances\": [1.0,]}"), HasSubstr("offset: 19"));
  EXPECT_THAT(ReadBack(tensorflow::DT_INT32, "{\"instances\": [1.5]}"),
              HasSubstr("1.5 is not of expected type: int32"));
  EXPECT_THAT(ReadBack(tensorflow::DT_INT8, "{\"instances\": [128]}"),
              HasSubstr("128 is out of range for type: int8"));
  EXPECT_THAT(ReadBack(kFloat, "{\"instances\": [[1], [2, 3]]}"),
              HasSubstr("Expecting tensor size: 1 but got: 2"));
  EXPECT_THAT(ReadBack(kFloat, "{\"inputs\": {\"z\": 1}}"), HasSubstr("Missing named input: x"));
}

TEST(PredictJsonTest, Floats) {
  EXPECT_EQ(ReadBack(kFloat, R"({"inputs": [NaN, Infinity, -Infinity, 1e39, -0.0, 0]})"),
            "[6] [NaN, Infinity, -Infinity, Infinity, -0.0, 0.0]");
  EXPECT_EQ(
      ReadBack(
          kFloat,
          R"({"inputs": [0.1, 1e-07, 3.4028235e+38, 1.17549435e-38, 16777217, 123456.789, 1e20, 9000000, 3e-05]})"),
      "[9] [0.1, 1e-07, 3.4028235e+38, 1.1754944e-38, 16777216.0, 123456.79, 1e+20, 9000000.0, 3e-05]");
  EXPECT_EQ(ReadBack(tensorflow::DT_DOUBLE, R"({"inputs": [0.1, 1e-300, 123456.789, 3, 9007199254740993]})"),
            "[5] [0.1, 1e-300, 123456.789, 3.0, 9007199254740992.0]");
  EXPECT_EQ(ReadBack(tensorflow::DT_HALF, R"({"inputs": [0.5, 1, 65504, NaN]})"),
            "[4] [0.5, 1.0, 65504.0, NaN]");
  EXPECT_EQ(ReadBack(tensorflow::DT_BFLOAT16, R"({"inputs": [0.5, -1, Infinity]})"),
            "[3] [0.5, -1.0, Infinity]");
}

template <class T>
void ExpectRange(DataType dtype) {
  const std::string low = absl::StrCat(std::numeric_limits<T>::min());
  const std::string high = absl::StrCat(std::numeric_limits<T>::max());
  EXPECT_EQ(ReadBack(dtype, absl::StrCat("{\"inputs\": [", low, ", ", high, ", 0, -0]}")),
            absl::StrCat("[4] [", low, ", ", high, ", 0, 0]"));
  // One more: the last digit of all limits is neither 0 nor 9, but of unsigned minima.
  std::string above = high;
  ++above.back();
  EXPECT_TRUE(Refused(dtype, absl::StrCat("{\"inputs\": [", above, "]}"))) << above;
  std::string below = std::is_signed_v<T> ? low : "-1";
  if (std::is_signed_v<T>) ++below.back();
  EXPECT_TRUE(Refused(dtype, absl::StrCat("{\"inputs\": [", below, "]}"))) << below;
  for (const char* value : {"1.0", "1e2", "1.5", "true", "\"1\"", "NaN", "null", "99999999999999999999",
                            "36893488147419103231", "-99999999999999999999", "1a", "01", "-"}) {
    EXPECT_TRUE(Refused(dtype, absl::StrCat("{\"inputs\": [", value, "]}"))) << value;
  }
}

TEST(PredictJsonTest, IntegersToTheirLimits) {
  ExpectRange<std::int8_t>(tensorflow::DT_INT8);
  ExpectRange<std::int16_t>(tensorflow::DT_INT16);
  ExpectRange<std::int32_t>(tensorflow::DT_INT32);
  ExpectRange<std::int64_t>(tensorflow::DT_INT64);
  ExpectRange<std::uint8_t>(tensorflow::DT_UINT8);
  ExpectRange<std::uint16_t>(tensorflow::DT_UINT16);
  ExpectRange<std::uint32_t>(tensorflow::DT_UINT32);
  ExpectRange<std::uint64_t>(tensorflow::DT_UINT64);
}

TEST(PredictJsonTest, Bools) {
  EXPECT_EQ(ReadBack(tensorflow::DT_BOOL, R"({"instances": [true, false]})"), "[2] [true, false]");
  EXPECT_TRUE(Refused(tensorflow::DT_BOOL, R"({"instances": [1]})"));
  EXPECT_TRUE(Refused(tensorflow::DT_BOOL, R"({"instances": ["true"]})"));
}

TEST(PredictJsonTest, Strings) {
  constexpr DataType kString = tensorflow::DT_STRING;
  EXPECT_EQ(ReadBack(kString,
                     R"({"instances": ["a", "b\u00e9", "", "\"q\\\"", "l\nb", "\u2603", "\u0000\u001f"]})"),
            "[7] [\"a\", \"b\u00e9\", \"\", \"\\\"q\\\\\\\"\", \"l\\nb\", \"\u2603\", \"\\u0000\\u001f\"]");
  EXPECT_EQ(ReadBack(kString, R"({"instances": [{"b64": "aGVsbG8="}, "x", {"b64": "/wA="}]})"),
            "[3] [\"hello\", \"x\", \"\xff\\u0000\"]");
  EXPECT_EQ(ReadBack(kString, R"({"instances": [[{"b64": "aGVsbG8="}], ["x"]]})"),
            "[2,1] [[\"hello\"], [\"x\"]]");
  EXPECT_EQ(ReadBack(kString, R"({"instances": [{"x": {"b64": "aGVsbG8="}}]})"), "[1] [\"hello\"]");
  EXPECT_EQ(ReadBack(kString, R"({"inputs": {"b64": "aGVsbG8="}})"), "[] \"hello\"");
  EXPECT_EQ(ReadBack(kString, R"({"inputs": {"x": [{"b64": ""}]}})"), "[1] [\"\"]");
  // Only an object with nothing else in it is bytes.
  EXPECT_EQ(ReadBack(kString, R"({"inputs": {"b64": "eA==", "x": ["a"]}})"), "[1] [\"a\"]");
  EXPECT_TRUE(Refused(kString, R"({"instances": [{"b64": "eA==", "x": "a"}]})"));
  for (const char* value : {"{\"b64\": 3}", "{\"b64\": \"eA==\", \"y\": 1}", "{\"b64\": \"*\"}",
                            "{\"b64\": \"e\"}", "{}", "{\"c\": \"eA==\"}", "1", "true", "null"}) {
    EXPECT_TRUE(Refused(kString, absl::StrCat("{\"instances\": [[", value, "]]}"))) << value;
    EXPECT_TRUE(Refused(kString, absl::StrCat("{\"instances\": [", value, "]}"))) << value;
  }
  // Longer than any buffer of ours.
  std::string many = "{\"inputs\": [";
  for (int i = 0; i < 1000; ++i) absl::StrAppend(&many, i == 0 ? "" : ",", "\"string number ", i, "\"");
  auto tensor = ParseOne(kString, many + "]}");
  ASSERT_TRUE(tensor.ok());
  ASSERT_EQ(tensor->NumElements(), 1000);
  EXPECT_EQ(tensor->vec<tstring>()(999), "string number 999");
}

TEST(PredictJsonTest, LargeArraysKeepEveryElement) {
  for (int width : {63, 64, 65, 1000}) {
    std::string body = "{\"instances\": [";
    for (int row = 0; row < 50; ++row) {
      absl::StrAppend(&body, row == 0 ? "[" : ",\n [");
      for (int i = 0; i < width; ++i)
        absl::StrAppend(&body, i == 0 ? "" : i % 3 == 0 ? " ,  " : ",", row * 1000 + i, i % 2 ? ".0" : "");
      absl::StrAppend(&body, "]");
    }
    auto tensor = ParseOne(kFloat, body + "]}");
    ASSERT_TRUE(tensor.ok()) << tensor.status();
    ASSERT_EQ(tensor->shape(), TensorShape({50, width}));
    EXPECT_TRUE(tensor->IsAligned());
    for (int row = 0; row < 50; ++row) {
      for (int i = 0; i < width; ++i) ASSERT_EQ(tensor->matrix<float>()(row, i), row * 1000 + i);
    }
  }
}

TEST(PredictJsonTest, BoundsDepth) {
  const std::string deep = "{\"inputs\": " + std::string(300, '[') + "1" + std::string(300, ']') + "}";
  EXPECT_TRUE(Refused(kFloat, deep));  // a tensor has at most 254 dimensions
  EXPECT_TRUE(Refused(kFloat, "{\"inputs\": " + std::string(1000000, '[')));
  EXPECT_TRUE(Refused(kFloat, "{\"whatever\": " + std::string(1000000, '[')));
  EXPECT_TRUE(Refused(tensorflow::DT_STRING, "{\"instances\": " + std::string(1000000, '[')));
  EXPECT_TRUE(Refused(
      kFloat, "{\"instances\": [{\"x\": " + std::string(254, '[') + "1" + std::string(254, ']') + "}]}"));
  const Signature signature = TestSignature("s", {{"x", kFloat}}, {{"y", kFloat}});
  PredictJsonRequest request;
  EXPECT_TRUE(Parse(signature, "{\"inputs\": [[1]]}", &request, 3).ok());
  EXPECT_FALSE(Parse(signature, "{\"inputs\": [[1]]}", &request, 2).ok());
}

TEST(PredictJsonTest, SignatureNameInAnyPlace) {
  const Signature first = TestSignature("serving_default", {{"x", kFloat}}, {{"y", kFloat}});
  const Signature second = TestSignature("other", {{"x", tensorflow::DT_STRING}}, {{"y", kFloat}});
  const SignatureLookup lookup = [&](absl::string_view name) -> absl::StatusOr<const Signature*> {
    if (name.empty() || name == "serving_default") return &first;
    if (name == "other") return &second;
    return absl::InvalidArgumentError("Serving signature name not found");
  };
  const auto chosen = [&](const std::string& body) -> std::string {
    PredictJsonRequest request;
    absl::Status status = ParsePredictJson(body, lookup, 10, &request);
    return status.ok() ? absl::StrCat(request.signature->name, " ", Shown(request.inputs[0]))
                       : std::string(status.message());
  };
  EXPECT_EQ(chosen(R"({"instances": [1]})"), "serving_default [1] [1.0]");
  EXPECT_EQ(chosen(R"({"signature_name": "", "instances": [1]})"), "serving_default [1] [1.0]");
  EXPECT_EQ(chosen(R"({"instances": [1], "signature_name": "serving_default"})"),
            "serving_default [1] [1.0]");
  EXPECT_EQ(chosen(R"({"signature_name": "other", "instances": ["a"]})"), "other [1] [\"a\"]");
  EXPECT_EQ(chosen(R"({"instances": ["a"], "signature_name": "other"})"), "other [1] [\"a\"]");
  EXPECT_EQ(chosen(R"({"inputs": [], "signature_name": "other"})"), "other [0] []");
  EXPECT_EQ(chosen(R"({"instances": [1], "signature_name": "none"})"), "Serving signature name not found");
  EXPECT_EQ(chosen(R"({"signature_name": "none", "instances": [1]})"), "Serving signature name not found");
  // No default signature, and the one that is meant comes last.
  const SignatureLookup only_other = [&](absl::string_view name) -> absl::StatusOr<const Signature*> {
    if (name == "other") return &second;
    return absl::InvalidArgumentError("Serving signature name not found");
  };
  PredictJsonRequest request;
  EXPECT_TRUE(
      ParsePredictJson(R"({"instances": ["a"], "signature_name": "other"})", only_other, 10, &request).ok());
  EXPECT_FALSE(ParsePredictJson(R"({"instances": ["a"]})", only_other, 10, &request).ok());
}

TEST(PredictJsonTest, SeveralInputs) {
  Signature wide = TestSignature(
      "wide", {{"a", kFloat}, {"b", tensorflow::DT_INT64}, {"s", tensorflow::DT_STRING}}, {{"y", kFloat}});
  PredictJsonRequest request;
  ASSERT_TRUE(
      Parse(wide, R"({"instances": [{"s": "x", "a": 1.5, "b": 2}, {"b": 3, "a": 2, "s": "y"}]})", &request)
          .ok());
  EXPECT_EQ(request.format, PredictFormat::kRows);
  EXPECT_EQ(Shown(request.inputs[0]), "[2] [1.5, 2.0]");
  EXPECT_EQ(Shown(request.inputs[1]), "[2] [2, 3]");
  EXPECT_EQ(Shown(request.inputs[2]), "[2] [\"x\", \"y\"]");
  ASSERT_TRUE(
      Parse(wide, R"({"inputs": {"a": [1.5, 2.5], "b": 2, "s": [["x"]], "unknown": [[]]}})", &request).ok());
  EXPECT_EQ(request.format, PredictFormat::kColumns);
  EXPECT_EQ(Shown(request.inputs[0]), "[2] [1.5, 2.5]");
  EXPECT_EQ(Shown(request.inputs[1]), "[] 2");
  EXPECT_EQ(Shown(request.inputs[2]), "[1,1] [[\"x\"]]");
  for (const char* body : {R"({"instances": [1.0]})", R"({"inputs": [1.0]})",
                           R"({"inputs": {"b64": "AA=="}})", R"({"inputs": {"a": [1.5], "b": [2]}})",
                           R"({"instances": [{"a": 1.5, "b": 2, "s": "x"}, {"a": 1.5, "b": 2}]})",
                           R"({"instances": [{"a": 1.5, "b": 2}, {"a": 1.5, "b": 2, "s": "x"}]})",
                           R"({"instances": [{"a": 1.5, "b": 2, "s": "x", "q": 1}]})"}) {
    EXPECT_FALSE(Parse(wide, body, &request).ok()) << body;
  }
  // A default stands in for what is left out.
  wide.inputs[1].default_value = Tensor(tensorflow::int64{7});
  ASSERT_TRUE(Parse(wide, R"({"instances": [{"a": 1.5, "s": "x"}, {"a": 2.5, "s": "y"}]})", &request).ok());
  EXPECT_EQ(Shown(request.inputs[1]), "[] 7");
  ASSERT_TRUE(Parse(wide, R"({"inputs": {"a": [1.5], "s": ["x"]}})", &request).ok());
  EXPECT_EQ(Shown(request.inputs[1]), "[] 7");
  EXPECT_FALSE(
      Parse(wide, R"({"instances": [{"a": 1.5, "s": "x"}, {"a": 2.5, "s": "y", "b": 1}]})", &request).ok());
  EXPECT_FALSE(
      Parse(wide, R"({"instances": [{"a": 1.5, "s": "x", "b": 1}, {"a": 2.5, "s": "y"}]})", &request).ok());
}

// As in TensorFlow Serving, the object is the bytes of an input whatever the input's name is.
TEST(PredictJsonTest, AnOnlyInputNamedB64) {
  const Signature signature = TestSignature("s", {{"b64", tensorflow::DT_STRING}}, {{"y", kFloat}});
  const SignatureLookup lookup = [&](absl::string_view) { return &signature; };
  const auto parse = [&](absl::string_view body) {
    PredictJsonRequest request;
    absl::Status status = ParsePredictJson(body, lookup, 100, &request);
    return status.ok() ? request.inputs[0].DebugString() : std::string(status.message());
  };
  EXPECT_EQ(parse(R"({"instances": [{"b64": "aGk="}]})"), "Tensor<type: string shape: [1] values: hi>");
  EXPECT_EQ(parse(R"({"inputs": {"b64": "aGk="}})"), "Tensor<type: string shape: [] values: hi>");
  EXPECT_EQ(parse(R"({"instances": [{"b64": {"b64": "aGk="}}]})"),
            "Tensor<type: string shape: [1] values: hi>");
  EXPECT_EQ(parse(R"({"inputs": {"b64": ["hi"]}})"), "Tensor<type: string shape: [1] values: hi>");
}

// rapidjson, which TensorFlow Serving has, takes a NUL for the end of the text.
TEST(PredictJsonTest, WhatFollowsANulIsIgnored) {
  for (const absl::string_view tail :
       {absl::string_view("\0", 1), absl::string_view(" \n\0", 3), absl::string_view("\0and more {", 11)}) {
    EXPECT_TRUE(ParseOne(kFloat, absl::StrCat(R"({"instances": [1.0]})", tail)).ok());
  }
  EXPECT_FALSE(ParseOne(kFloat, R"({"instances": [1.0]} and more)").ok());
  EXPECT_FALSE(ParseOne(kFloat, std::string("{\"instances\": [1.0\0]}", 21)).ok());
}

TEST(PredictJsonTest, TypesWithoutJson) {
  constexpr DataType kComplex = tensorflow::DT_COMPLEX64;
  EXPECT_TRUE(Refused(kComplex, R"({"instances": [1.0]})"));
  EXPECT_TRUE(Refused(kComplex, R"({"instances": [{"x": 1.0}]})"));
  EXPECT_EQ(ParseOne(kComplex, R"({"inputs": [1.0]})").status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(ParseOne(kComplex, R"({"inputs": {"x": 1.0}})").status().code(),
            absl::StatusCode::kUnimplemented);
  const Signature signature = TestSignature("s", {}, {{"y", tensorflow::DT_COMPLEX64}});
  std::string body;
  EXPECT_EQ(WritePredictJson(signature, PredictFormat::kRows,
                             {Tensor(tensorflow::DT_COMPLEX64, TensorShape({1}))}, &body)
                .code(),
            absl::StatusCode::kInvalidArgument);
}

Tensor Floats(const std::vector<float>& values, const TensorShape& shape) {
  Tensor tensor(kFloat, shape);
  std::copy(values.begin(), values.end(), tensor.flat<float>().data());
  return tensor;
}

TEST(PredictJsonTest, Replies) {
  const Signature one = TestSignature("one", {}, {{"y", kFloat}});
  const Signature two = TestSignature("two", {}, {{"blob_bytes", tensorflow::DT_STRING}, {"y", kFloat}});
  Tensor strings(tensorflow::DT_STRING, TensorShape({2}));
  strings.vec<tstring>()(0) = "abc";
  strings.vec<tstring>()(1) = "\xff";
  const auto reply = [](const Signature& signature, PredictFormat format,
                        const std::vector<Tensor>& results) {
    std::string body;
    absl::Status status = WritePredictJson(signature, format, results, &body);
    return status.ok() ? body : std::string(status.message());
  };
  EXPECT_EQ(reply(one, PredictFormat::kRows, {Floats({2.5, 3}, TensorShape({2}))}),
            R"({"predictions": [2.5, 3.0]})");
  EXPECT_EQ(reply(one, PredictFormat::kColumns, {Floats({2.5, 3}, TensorShape({2, 1}))}),
            R"({"outputs": [[2.5], [3.0]]})");
  EXPECT_EQ(reply(one, PredictFormat::kRows, {Floats({}, TensorShape({0, 4}))}), R"({"predictions": []})");
  EXPECT_EQ(
      reply(two, PredictFormat::kRows, {Tensor(tensorflow::DT_STRING, TensorShape({0})), Floats({}, {0, 2})}),
      R"({"predictions": []})");
  EXPECT_EQ(
      reply(two, PredictFormat::kRows, {strings, Floats({}, TensorShape({2, 0}))}),
      R"({"predictions": [{"blob_bytes": {"b64": "YWJj"}, "y": []}, {"blob_bytes": {"b64": "/w=="}, "y": []}]})");
  EXPECT_THAT(reply(two, PredictFormat::kRows, {strings, Floats({}, TensorShape({0}))}),
              HasSubstr("inconsistent batch size"));
  EXPECT_EQ(reply(one, PredictFormat::kColumns, {Floats({}, TensorShape({0, 4}))}), R"({"outputs": []})");
  EXPECT_EQ(
      reply(two, PredictFormat::kRows, {strings, Floats({1, 2, 3, 4}, TensorShape({2, 2}))}),
      R"({"predictions": [{"blob_bytes": {"b64": "YWJj"}, "y": [1.0, 2.0]}, {"blob_bytes": {"b64": "/w=="}, "y": [3.0, 4.0]}]})");
  EXPECT_EQ(reply(two, PredictFormat::kColumns, {strings, Floats({1}, TensorShape({}))}),
            R"({"outputs": {"blob_bytes": [{"b64": "YWJj"}, {"b64": "/w=="}], "y": 1.0}})");
  EXPECT_THAT(reply(one, PredictFormat::kRows, {Floats({1}, TensorShape({}))}), HasSubstr("batch dimension"));
  EXPECT_THAT(reply(two, PredictFormat::kRows, {strings, Floats({1}, TensorShape({1}))}),
              HasSubstr("inconsistent batch size"));
}

TEST(PredictJsonTest, LongRepliesReadBack) {
  std::vector<float> values;
  for (int i = 0; i < 5000; ++i)
    values.push_back(std::sin(static_cast<float>(i)) * std::pow(10.0f, i % 60 - 30));
  const Tensor written = Floats(values, TensorShape({5, 10, 100}));
  std::string body;
  ASSERT_TRUE(
      WritePredictJson(TestSignature("s", {}, {{"y", kFloat}}), PredictFormat::kColumns, {written}, &body)
          .ok());
  body.replace(2, 7, "inputs");
  auto read = ParseOne(kFloat, body);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->shape(), written.shape());
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(read->flat<float>()(i), values[i]);
}

}  // namespace
}  // namespace tfipu::serving
