// A small valid executable for tests: two stages, every kind of value. Its code is not code.
#ifndef CC_EXECUTABLE_TEST_EXECUTABLE_H_
#define CC_EXECUTABLE_TEST_EXECUTABLE_H_

#include <string>

#include "cc/executable/executable.pb.h"
#include "cc/executable/writer.h"

namespace tfipu {

// A header for this runtime, without blobs: AddTestBlobs() or a test adds them.
ExecutableHeader TestHeader();

// Gives each stage code and HLO, and the header's weights their bytes.
void AddTestBlobs(ExecutableHeader& header, ExecutableWriter& writer);

// The bytes of the file that TestHeader() and AddTestBlobs() give.
std::string TestExecutableBytes();

// A file that holds `header` under a good checksum, then `rest`: what a hostile writer can make.
std::string ForgedBytes(const ExecutableHeader& header, const std::string& rest);

// A path in the test's temporary folder; unique to the running test process.
std::string TestPath(const std::string& name);
void WriteBytes(const std::string& path, const std::string& bytes);
std::string ReadBytes(const std::string& path);

}  // namespace tfipu

#endif  // CC_EXECUTABLE_TEST_EXECUTABLE_H_
