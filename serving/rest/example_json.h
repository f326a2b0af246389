// Classify's and Regress's JSON: requests to tf.Examples, results to replies.
#ifndef SERVING_REST_EXAMPLE_JSON_H_
#define SERVING_REST_EXAMPLE_JSON_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "tensorflow_serving/apis/classification.pb.h"
#include "tensorflow_serving/apis/input.pb.h"
#include "tensorflow_serving/apis/regression.pb.h"

namespace tfipu::serving {

// Reads {"signature_name": ..., "context": {...}, "examples": [{...}, ...]}. A feature is a value or a list
// of values of one kind: whole numbers, true and false make an int64 list, other numbers (and whole ones
// beyond 64 bits) a float list, strings and {"b64": ...} a bytes list. InvalidArgument for anything else, and
// for names that are given twice.
absl::Status ParseExamplesJson(absl::string_view body, int max_depth, std::string* signature_name,
                               tensorflow::serving::Input* input);

// {"results": [[["label", score], ...], ...]}
void WriteClassifyJson(const tensorflow::serving::ClassificationResult& result, std::string* body);

// {"results": [value, ...]}
void WriteRegressJson(const tensorflow::serving::RegressionResult& result, std::string* body);

}  // namespace tfipu::serving

#endif  // SERVING_REST_EXAMPLE_JSON_H_
