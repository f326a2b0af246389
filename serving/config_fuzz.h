// What the fuzzer of the server's text files does with an input, for libFuzzer and for config_fuzz_test.
#ifndef SERVING_CONFIG_FUZZ_H_
#define SERVING_CONFIG_FUZZ_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tfipu::serving {

// The first byte of an input modulo 6 says which file the rest is.
enum class ConfigFuzzMode {
  kModels = 0,      // --model_config_file
  kBatching = 1,    // --batching_parameters_file
  kSession = 2,     // --tensorflow_session_config_file
  kPlatform = 3,    // --platform_config_file
  kMonitoring = 4,  // --monitoring_config_file
  kTls = 5,         // --ssl_config_file
};

// Reads and checks the file as the server does, and aborts when something that was promised does not hold: an
// error is InvalidArgument with a text; what is accepted can be followed, and written and read again it means
// the same. True if the file was accepted.
bool ReadConfigFuzzInput(absl::string_view input);

// Accepted inputs of every kind.
std::vector<std::string> ConfigFuzzSeeds();

}  // namespace tfipu::serving

#endif  // SERVING_CONFIG_FUZZ_H_
