// Answers TensorFlow Serving's REST API: model status, metadata, predict, classify and regress; and
// statistics, which are our own.
#ifndef SERVING_REST_REST_HANDLER_H_
#define SERVING_REST_REST_HANDLER_H_

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "serving/api/call_observer.h"
#include "serving/api/inference.h"
#include "serving/compute/compute_slots.h"
#include "serving/core/servable_directory.h"
#include "serving/net/http1/http_exchange.h"

namespace tfipu::serving {

using net::http1::HttpExchange;

// A page beside the models' own, such as the Prometheus endpoint.
struct RestPage {
  std::string content_type;
  std::function<std::string()> body;  // called for each GET, from any thread
};

struct RestOptions {
  InferenceOptions inference;        // tensor_content does not matter here
  CallObserver* observer = nullptr;  // may be null; outlives the handler
  // How long a call may take until it is given up with 504, as far as its model can be made to. The transport
  // has a limit of its own for the client (HttpServerOptions::call_timeout).
  absl::Duration timeout = absl::InfiniteDuration();
  // Adds the CORS headers that let browsers of any origin call, and answers preflight requests.
  bool enable_cors = false;
  // Arrays and objects within each other in a request: 400 for what is deeper.
  int max_json_depth = 300;
  // The body of GET .../stats for a served version, as JSON; empty: there is no such path.
  std::function<std::string(const Servable&)> statistics;
  // GET routes by exact path, for example "/monitoring/prometheus/metrics".
  std::map<std::string, RestPage, std::less<>> pages;
};

// What is short runs on the thread that brought it, the rest on `compute` or a device.
// Errors are {"error": "..."} with the HTTP status that their code maps to: 400 for what the client did
// wrong, 404 for models and versions that are not served, 405 for a known path with a wrong method, 499 when
// the client is gone, 501 for Unimplemented, 503 with Retry-After for Unavailable and ResourceExhausted (a
// queue is full), 504 for DeadlineExceeded, else 500. Thread-safe. The directory and `compute` outlive it,
// and it outlives every exchange it was given.
class RestHandler {
 public:
  RestHandler(const ServableDirectory* directory, compute::ComputeQueue* compute, RestOptions options);
  ~RestHandler();

  RestHandler(const RestHandler&) = delete;
  RestHandler& operator=(const RestHandler&) = delete;

  // An HttpHandler: [&](HttpExchange* e) { handler.Handle(e); }
  void Handle(HttpExchange* exchange);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tfipu::serving

#endif  // SERVING_REST_REST_HANDLER_H_
