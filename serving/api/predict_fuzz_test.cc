#include "serving/api/predict_fuzz.h"

#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "serving/api/sample_tensors.h"
#include "serving/base/fuzz_driver.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/tensor.pb.h"
#include "tensorflow_serving/apis/predict.pb.h"

namespace {

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  for (std::size_t type = 0; type < std::size(tfipu::serving::kTypes); ++type) {
    const tensorflow::DataType dtype = tfipu::serving::kTypes[type];
    tensorflow::Tensor tensor(dtype, {2, 3});
    if (dtype == tensorflow::DT_STRING) {
      tensor.flat<tensorflow::tstring>()(1) = "text";
    } else {
      std::fill_n(static_cast<char*>(tensor.data()), tensor.TotalBytes(), '\1');
    }
    for (bool content : {false, true}) {
      tensorflow::serving::PredictRequest request;
      request.mutable_model_spec()->set_name("model");
      request.mutable_model_spec()->mutable_version()->set_value(3);
      request.mutable_model_spec()->set_signature_name("serving_default");
      request.add_output_filter("y");
      auto* proto = &(*request.mutable_inputs())["x"];
      content ? tensor.AsProtoTensorContent(proto) : tensor.AsProtoField(proto);
      tensor.AsProtoField(&(*request.mutable_inputs())["other"]);
      seeds.push_back(std::string{content ? '\6' : '\xff', static_cast<char>(type)} +
                      request.SerializeAsString());
    }
  }
  return seeds;
}

std::string Mutated(std::string input, std::mt19937& random) {
  const auto place = [&] { return random() % input.size(); };
  for (int n = 1 + random() % 4; n > 0 && !input.empty(); --n) {
    switch (random() % 5) {
      case 0:
        input[place()] ^= static_cast<char>(1 << (random() % 8));
        break;
      case 1:
        input[place()] = static_cast<char>(random());
        break;
      case 2:  // a varint that says a lot
        input[place()] = '\xff';
        break;
      case 3:
        input.erase(place(), 1 + random() % 8);
        break;
      default: {
        const std::string piece = input.substr(place(), 1 + random() % 32);
        input.insert(place(), piece);
      }
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  tfipu::serving::base::FuzzProgram program;
  program.seeds = Seeds();
  program.mutate = Mutated;
  program.run = tfipu::serving::ParsePredictFuzzInput;
  program.random_seed = 1;
  program.demands_both = true;
  return tfipu::serving::base::FuzzMain(argc, argv, program);
}
