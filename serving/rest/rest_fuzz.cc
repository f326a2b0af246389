#include "serving/rest/rest_fuzz.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "serving/rest/example_json.h"
#include "serving/rest/predict_json.h"
#include "serving/rest/predict_reply_json.h"
#include "serving/rest/rest_route.h"
#include "serving/rest/test_signature.h"
#include "tensorflow/core/framework/tensor.h"

namespace tfipu::serving {
namespace {

constexpr int kDepth = 40;

void Demand(bool promise) {
  if (!promise) std::abort();
}

const std::vector<Signature>& Signatures() {
  static const auto* const signatures = [] {
    auto* all = new std::vector<Signature>;
    for (const tensorflow::DataType dtype :
         {tensorflow::DT_FLOAT, tensorflow::DT_DOUBLE, tensorflow::DT_HALF, tensorflow::DT_BFLOAT16,
          tensorflow::DT_INT8, tensorflow::DT_INT32, tensorflow::DT_INT64, tensorflow::DT_UINT8,
          tensorflow::DT_UINT64, tensorflow::DT_BOOL, tensorflow::DT_STRING}) {
      all->push_back(TestSignature("one", {{"x", dtype}}, {{"x", dtype}}));
    }
    const std::vector<AliasAndType> wide = {
        {"a", tensorflow::DT_FLOAT}, {"b", tensorflow::DT_INT64}, {"s_bytes", tensorflow::DT_STRING}};
    all->push_back(TestSignature("wide", wide, wide));
    return all;
  }();
  return *signatures;
}

bool Same(const tensorflow::Tensor& a, const tensorflow::Tensor& b) {
  if (a.dtype() != b.dtype() || a.shape() != b.shape()) return false;
  if (a.dtype() == tensorflow::DT_STRING) {
    for (std::int64_t i = 0; i < a.NumElements(); ++i) {
      if (a.flat<tensorflow::tstring>()(i) != b.flat<tensorflow::tstring>()(i)) return false;
    }
    return true;
  }
  return a.NumElements() == 0 || std::memcmp(a.data(), b.data(), a.TotalBytes()) == 0;
}

bool ParsePredict(absl::string_view input) {
  if (input.empty()) return false;
  const Signature& signature = Signatures()[static_cast<unsigned char>(input[0]) % Signatures().size()];
  const SignatureLookup lookup = [&](absl::string_view) { return &signature; };
  // A copy of exactly that size, so that a sanitizer sees what is read beyond it.
  const std::vector<char> exact(input.begin() + 1, input.end());
  PredictJsonRequest request;
  const absl::Status status = ParsePredictJson({exact.data(), exact.size()}, lookup, kDepth, &request);
  if (!status.ok()) {
    Demand(status.code() == absl::StatusCode::kInvalidArgument && !status.message().empty());
    return false;
  }
  Demand(request.inputs.size() == signature.inputs.size());
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const tensorflow::Tensor& tensor = request.inputs[i];
    Demand(tensor.dtype() == signature.inputs[i].dtype && tensor.IsInitialized());
    Demand(tensor.TotalBytes() >=
           static_cast<std::size_t>(tensor.NumElements()) * tensorflow::DataTypeSize(tensor.dtype()));
  }
  std::string reply;
  Demand(WritePredictJson(signature, PredictFormat::kColumns, request.inputs, &reply).ok());
  Demand(absl::StartsWith(reply, "{\"outputs\""));
  reply.replace(2, 7, "inputs");
  PredictJsonRequest again;
  // NaNs may come back with other bits.
  const bool nan = absl::StrContains(reply, "NaN");
  Demand(ParsePredictJson(reply, lookup, kDepth + 2, &again).ok());
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    Demand(nan || Same(request.inputs[i], again.inputs[i]));
  }
  return true;
}

bool ParseExamples(absl::string_view input) {
  std::string name;
  tensorflow::serving::Input examples;
  const absl::Status status = ParseExamplesJson(input, kDepth, &name, &examples);
  Demand(status.ok() || !status.message().empty());
  return status.ok();
}

bool ParseTarget(absl::string_view input) {
  RestRoute route;
  const absl::Status status = ParseRoute(PathOf(input), &route);
  Demand(!status.ok() || !route.model.name.empty());
  return status.ok();
}

}  // namespace

bool ParseRestFuzzInput(absl::string_view input) {
  if (input.empty()) return false;
  const auto mode = static_cast<RestFuzzMode>(static_cast<unsigned char>(input[0]) % 3);
  input.remove_prefix(1);
  switch (mode) {
    case RestFuzzMode::kPredict:
      return ParsePredict(input);
    case RestFuzzMode::kExamples:
      return ParseExamples(input);
    case RestFuzzMode::kTarget:
      return ParseTarget(input);
  }
  return false;
}

std::vector<std::string> RestFuzzSeeds() {
  std::vector<std::string> seeds;
  const std::vector<std::string> numbers = {
      R"({"instances": [1, 2, 3]})",
      R"({"inputs": {"x": [[1, 0, 5], [7, 1, 0]]}, "other": [null, {"a": [true, "\u00e9\n"]}]})",
      R"({"instances": [{"x": [1]}, {"x": [2]}], "signature_name": "one"})",
      R"({"inputs": 3})",
  };
  for (int signature = 0; signature < 9; ++signature) {
    for (const std::string& body : numbers)
      seeds.push_back(std::string{'\0', static_cast<char>(signature)} + body);
  }
  std::string floats = R"({"instances": [[0.12345678901234567, -1.5)";
  for (int i = 0; i < 60; ++i) floats += i % 7 == 0 ? ", 1e-3" : ", 0.25, -3.0625";
  for (char signature = 0; signature < 4; ++signature) {
    seeds.push_back(std::string{'\0', signature} +
                    R"({"inputs": [1.5, -2e-3, NaN, Infinity, -Infinity, 0.1]})");
    seeds.push_back(std::string{'\0', signature} + floats + "]]}");
  }
  seeds.push_back(std::string{'\0', 9} + R"({"instances": [true, false]})");
  seeds.push_back(std::string{'\0', 10} +
                  R"({"instances": ["a", {"b64": "aGVsbG8="}, "\ud83d\ude00\u0000"]})");
  seeds.push_back(
      std::string{'\0', 11} +
      R"({"instances": [{"a": 1.5, "b": 2, "s_bytes": {"b64": "/wA="}}, {"b": 1, "a": 0, "s_bytes": ""}]})");
  seeds.push_back(std::string{'\0', 11} + R"({"inputs": {"a": [1.5], "b": 2, "s_bytes": [["x"]]}})");
  seeds.push_back(
      "\1"
      R"({"context": {"t": "x"}, "examples": [{"a": 1, "b": [1.5, NaN], "c": ["x", {"b64": "eA=="}]}, {}]})");
  seeds.push_back("\2/v1/models/m/versions/3:predict?x=%20");
  seeds.push_back("\2http://h/v1/models/%68/labels/l/metadata");
  return seeds;
}

}  // namespace tfipu::serving

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tfipu::serving::ParseRestFuzzInput({reinterpret_cast<const char*>(data), size});
  return 0;
}
