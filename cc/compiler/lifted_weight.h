#ifndef CC_COMPILER_LIFTED_WEIGHT_H_
#define CC_COMPILER_LIFTED_WEIGHT_H_

#include <string>

#include "cc/executable/executable.pb.h"

namespace tfipu {

// A constant that became a parameter: its bytes are dense and row-major.
struct LiftedWeight {
  TensorSpec spec;
  std::string bytes;
};

}  // namespace tfipu

#endif  // CC_COMPILER_LIFTED_WEIGHT_H_
