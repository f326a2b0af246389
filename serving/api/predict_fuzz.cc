#include "serving/api/predict_fuzz.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <vector>

#include "serving/api/predict_reply.h"
#include "serving/api/predict_wire.h"
#include "serving/api/sample_tensors.h"
#include "tensorflow_serving/apis/predict.pb.h"

namespace tfipu::serving {
namespace {

void Demand(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// Two inputs, one with a default, and two outputs.
Signature SignatureFor(tensorflow::DataType dtype) {
  Signature signature;
  signature.inputs.push_back({"other", "other:0", dtype, {}, tensorflow::Tensor(dtype, {})});
  signature.inputs.push_back({"x", "x:0", dtype, {}, {}});
  signature.outputs.push_back({"y", "y:0", dtype, {}, {}});
  signature.outputs.push_back({"z", "z:0", dtype, {}, {}});
  return signature;
}

struct Parsed {
  PredictTarget target;
  PredictInputs inputs;
};

absl::Status Parse(absl::string_view bytes, std::size_t slice, const Signature& signature, Parsed* parsed) {
  std::vector<Slice> slices;
  for (std::size_t at = 0; at < bytes.size(); at += slice) {
    slices.push_back({bytes.data() + at, std::min(slice, bytes.size() - at)});
  }
  absl::Status status = ParsePredictTarget(slices, &parsed->target);
  if (!status.ok()) return status;
  return ReadPredictInputs(slices, signature, &parsed->inputs);
}

void DemandSame(const tensorflow::Tensor& a, const tensorflow::Tensor& b) {
  Demand(a.dtype() == b.dtype() && a.shape() == b.shape(), "types and shapes agree");
  if (a.dtype() != tensorflow::DT_STRING) {
    Demand(a.tensor_data() == b.tensor_data(), "values agree");
    return;
  }
  for (std::int64_t i = 0; i < a.NumElements(); ++i) {
    Demand(a.flat<tensorflow::tstring>()(i) == b.flat<tensorflow::tstring>()(i), "strings agree");
  }
}

// What TensorFlow makes of the same message.
void DemandAsTensorFlow(absl::string_view bytes, const Signature& signature, const Parsed& parsed) {
  tensorflow::serving::PredictRequest request;
  // Bytes that are skipped here need not be right.
  if (!request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  Demand(request.model_spec().name() == parsed.target.model.name &&
             request.model_spec().signature_name() == parsed.target.signature_name,
         "names agree with protobuf's");
  for (std::size_t i = 0; i < signature.inputs.size(); ++i) {
    const auto sent = request.inputs().find(signature.inputs[i].alias);
    if (sent == request.inputs().end()) continue;
    tensorflow::Tensor tensor;
    if (!tensor.FromProto(sent->second)) {
      // TensorFlow refuses bools that are neither 0 nor 1; here they are made so.
      Demand(sent->second.dtype() == tensorflow::DT_BOOL, "what was read is a tensor");
      continue;
    }
    DemandSame(tensor, parsed.inputs.inputs[i]);
  }
}

// Sends the inputs back as outputs.
void Reply(const PredictInputs& call) {
  const ServableId id{"model", 1};
  Signature signature;
  std::vector<int> wanted;
  std::vector<tensorflow::Tensor> outputs;
  for (const tensorflow::Tensor& input : call.inputs) {
    const std::string alias = "output" + std::to_string(outputs.size());
    signature.outputs.push_back({alias, alias, input.dtype(), {}, {}});
    wanted.push_back(static_cast<int>(outputs.size()));
    outputs.push_back(input);
  }
  for (bool tensor_content : {false, true}) {
    PredictReply reply(id, signature, wanted, outputs, tensor_content);
    std::size_t size = 0;
    if (!reply.Measure(&size).ok()) return;
    std::string bytes(size, '\0');
    reply.Write(bytes.data());
    tensorflow::serving::PredictResponse response;
    Demand(response.ParseFromString(bytes) && response.outputs_size() == static_cast<int>(outputs.size()),
           "the reply is a PredictResponse");
  }
}

}  // namespace

bool ParsePredictFuzzInput(absl::string_view input) {
  if (input.size() < 2) return false;
  const std::size_t slice = 1 + static_cast<unsigned char>(input[0]);
  const auto type = static_cast<unsigned char>(input[1]);
  const Signature signature = SignatureFor(kTypes[type % std::size(kTypes)]);
  input.remove_prefix(2);
  Parsed whole, cut;
  const absl::Status status = Parse(input, std::max<std::size_t>(input.size(), 1), signature, &whole);
  Demand(Parse(input, slice, signature, &cut).code() == status.code(), "both parses succeed or fail alike");
  if (!status.ok()) {
    Demand(!status.message().empty(), "errors have a text");
    Demand(status.code() == absl::StatusCode::kInvalidArgument ||
               (status.code() == absl::StatusCode::kInternal &&
                !tensorflow::serving::PredictRequest().ParseFromArray(input.data(),
                                                                      static_cast<int>(input.size()))),
           "errors are InvalidArgument, or Internal when it is not a PredictRequest");
    return false;
  }
  Demand(whole.target.model.name == cut.target.model.name && whole.inputs.outputs == cut.inputs.outputs &&
             whole.inputs.inputs.size() == cut.inputs.inputs.size(),
         "calls agree");
  for (std::size_t i = 0; i < whole.inputs.inputs.size(); ++i) {
    DemandSame(whole.inputs.inputs[i], cut.inputs.inputs[i]);
  }
  DemandAsTensorFlow(input, signature, whole);
  Reply(whole.inputs);
  return true;
}

}  // namespace tfipu::serving

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tfipu::serving::ParsePredictFuzzInput({reinterpret_cast<const char*>(data), size});
  return 0;
}
