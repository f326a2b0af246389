// What the fuzzer of Predict's request parser does with an input, for libFuzzer and for predict_fuzz_test.
#ifndef SERVING_API_PREDICT_FUZZ_H_
#define SERVING_API_PREDICT_FUZZ_H_

#include "absl/strings/string_view.h"

namespace tfipu::serving {

// Parses the input as a PredictRequest in one piece and again in slices of as many bytes as the first byte
// says, then writes what it holds as a reply. Aborts when the two disagree or the reply is not the message
// that it should be. True if the input is a request.
bool ParsePredictFuzzInput(absl::string_view input);

}  // namespace tfipu::serving

#endif  // SERVING_API_PREDICT_FUZZ_H_
