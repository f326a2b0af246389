// What the fuzzer does with an input, for libFuzzer and for rest_fuzz_test.
#ifndef SERVING_REST_REST_FUZZ_H_
#define SERVING_REST_REST_FUZZ_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tfipu::serving {

// The first byte of an input modulo 3 says what the rest is.
enum class RestFuzzMode {
  kPredict = 0,   // a predict request for the signature that the second byte picks
  kExamples = 1,  // a classify or regress request
  kTarget = 2,    // a request's target
};

// Parses the input and aborts when something that was promised does not hold: a tensor's size and shape
// agree, what was read is written and read again as the same, a failure has a message. True if it was
// accepted.
bool ParseRestFuzzInput(absl::string_view input);

// Accepted inputs of every kind.
std::vector<std::string> RestFuzzSeeds();

}  // namespace tfipu::serving

#endif  // SERVING_REST_REST_FUZZ_H_
