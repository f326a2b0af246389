// The input of Classify, Regress and MultiInference as one tensor.
#ifndef SERVING_API_EXAMPLE_INPUT_H_
#define SERVING_API_EXAMPLE_INPUT_H_

#include "absl/status/statusor.h"
#include "serving/api/repeated_bytes.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow_serving/apis/input.pb.h"

namespace tfipu::serving {

// A string vector of one serialised tf.Example per example, with the features of the context, if there is
// one, added to each (the example's own win). InvalidArgument "Input is empty." when there is no example, and
// when adding the context would take more than 256 MiB.
//
// `repeated` gets the share that the copies of the context are of what requests may hold in all;
// ResourceExhausted when there is no room.
absl::StatusOr<tensorflow::Tensor> ExamplesTensor(const tensorflow::serving::Input& input,
                                                  RepeatedBytes* repeated);

// How many examples that are.
int ExampleCount(const tensorflow::serving::Input& input);

}  // namespace tfipu::serving

#endif  // SERVING_API_EXAMPLE_INPUT_H_
