// What the fuzzer does with an input, for libFuzzer and for executable_fuzz_test.
#ifndef CC_EXECUTABLE_EXECUTABLE_FUZZ_H_
#define CC_EXECUTABLE_EXECUTABLE_FUZZ_H_

#include "absl/strings/string_view.h"

namespace tfipu {

// How a fuzzer's input becomes a file: its first byte modulo 3. Without the latter two nearly every mutation
// would end at the first checksum.
enum class FuzzMode {
  kFile = 0,  // the rest is the file
  kHeader =
      1,  // the rest is what follows the preamble; the next two bytes (little-endian) say how much is header
  kBlobs = 2,  // as before, and file_size and the blobs' checksums are made right where blobs lie in the file
};

// Opens the file that the input describes and, when that succeeds, relies on all that validate.h promises.
// Aborts when a promise is broken. True if it opened.
bool OpenFuzzInput(absl::string_view input);

}  // namespace tfipu

#endif  // CC_EXECUTABLE_EXECUTABLE_FUZZ_H_
