// The build of the running process, TensorFlow's version included. Links TensorFlow.
#ifndef CC_EXECUTABLE_TENSORFLOW_BUILD_H_
#define CC_EXECUTABLE_TENSORFLOW_BUILD_H_

#include "cc/executable/executable.pb.h"

namespace tfipu {

// RuntimeBuild() of compatibility.h and the version of TensorFlow that is loaded.
const Build& TensorFlowBuild();

}  // namespace tfipu

#endif  // CC_EXECUTABLE_TENSORFLOW_BUILD_H_
