// What a REST path asks for.
#ifndef SERVING_REST_REST_ROUTE_H_
#define SERVING_REST_REST_ROUTE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "serving/core/servable_directory.h"

namespace tfipu::serving {

enum class RestCall { kStatus, kMetadata, kStatistics, kPredict, kClassify, kRegress };

struct RestRoute {
  RestCall call = RestCall::kStatus;
  ModelSpec model;
};

// The path of a request target: without query and origin, not decoded.
absl::string_view PathOf(absl::string_view target);

// /v1/models/NAME[/versions/N|/labels/LABEL][:predict|:classify|:regress|/metadata|/stats]. NAME and LABEL
// are percent-decoded after the path was taken apart, so that they may hold any character. The fixed words
// before ':' are known in any case. NotFound for what lies outside /v1/, InvalidArgument for what lies inside
// and is none of these.
absl::Status ParseRoute(absl::string_view path, RestRoute* route);

}  // namespace tfipu::serving

#endif  // SERVING_REST_REST_ROUTE_H_
