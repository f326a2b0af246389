#include "serving/api/predict_fuzz.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "serving/api/predict_wire.h"
#include "tensorflow_serving/apis/predict.pb.h"

namespace tfipu::serving {
namespace {

void Demand(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

absl::Status Parse(absl::string_view bytes, std::size_t slice, PredictCall* call) {
  std::vector<Slice> slices;
  for (std::size_t at = 0; at < bytes.size(); at += slice) {
    slices.push_back({bytes.data() + at, std::min(slice, bytes.size() - at)});
  }
  return ParsePredictRequest(slices, call);
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

// Sends the inputs back as outputs.
void Reply(const PredictCall& call) {
  const ServableId id{"model", 1};
  Signature signature;
  std::vector<int> wanted;
  std::vector<tensorflow::Tensor> outputs;
  for (const NamedTensor& input : call.inputs) {
    const std::string alias = "output" + std::to_string(outputs.size());
    signature.outputs.push_back({alias, alias, input.second.dtype(), {}, {}});
    wanted.push_back(static_cast<int>(outputs.size()));
    outputs.push_back(input.second);
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
  if (input.empty()) return false;
  const std::size_t slice = 1 + static_cast<unsigned char>(input[0]);
  input.remove_prefix(1);
  PredictCall whole, cut;
  const absl::Status status = Parse(input, std::max<std::size_t>(input.size(), 1), &whole);
  Demand(Parse(input, slice, &cut).ok() == status.ok(), "both parses succeed or fail");
  if (!status.ok()) {
    Demand(!status.message().empty(), "errors have a text");
    Demand(status.code() == absl::StatusCode::kInvalidArgument ||
               (status.code() == absl::StatusCode::kInternal &&
                !tensorflow::serving::PredictRequest().ParseFromArray(input.data(),
                                                                      static_cast<int>(input.size()))),
           "errors are InvalidArgument, or Internal when it is no PredictRequest");
    return false;
  }
  Demand(whole.model.name == cut.model.name && whole.output_filter == cut.output_filter &&
             whole.inputs.size() == cut.inputs.size(),
         "calls agree");
  for (std::size_t i = 0; i < whole.inputs.size(); ++i) {
    Demand(whole.inputs[i].first == cut.inputs[i].first, "names agree");
    DemandSame(whole.inputs[i].second, cut.inputs[i].second);
  }
  Reply(whole);
  return true;
}

}  // namespace tfipu::serving

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tfipu::serving::ParsePredictFuzzInput({reinterpret_cast<const char*>(data), size});
  return 0;
}
