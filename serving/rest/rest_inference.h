// Inference calls over REST.
#ifndef SERVING_REST_REST_INFERENCE_H_
#define SERVING_REST_REST_INFERENCE_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "serving/api/inference_call.h"
#include "serving/net/http1/http_exchange.h"
#include "serving/rest/rest_route.h"

namespace tfipu::serving {

using net::http1::HttpExchange;

// What all of them have in common; outlives them.
struct RestInferenceOptions {
  InferenceServices services;
  absl::Duration timeout = absl::InfiniteDuration();  // RestOptions::timeout
  int max_json_depth = 300;
  // Answers an exchange with a JSON document, or with an error.
  std::function<void(HttpExchange*, std::string)> answer;
  std::function<void(HttpExchange*, const absl::Status&)> answer_error;
};

// Begins a call of Predict, Classify or Regress, which answers the exchange sooner or later.
void BeginRestInference(const RestInferenceOptions& options, RestRoute route, HttpExchange* exchange);

}  // namespace tfipu::serving

#endif  // SERVING_REST_REST_INFERENCE_H_
