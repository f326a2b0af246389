#include "serving/rest/rest_route.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tfipu::serving {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Replaces each %XX by what it stands for; false when a '%' is not followed by two digits.
bool Decode(absl::string_view text, std::string* decoded) {
  decoded->clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded->push_back(text[i]);
      continue;
    }
    const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = high >= 0 ? HexDigit(text[i + 2]) : -1;
    if (low < 0) return false;
    decoded->push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return true;
}

// Takes the next piece off a path, up to '/'.
absl::string_view NextPiece(absl::string_view* path) {
  const std::size_t slash = path->find('/');
  const absl::string_view piece = path->substr(0, slash);
  *path = slash == absl::string_view::npos ? absl::string_view() : path->substr(slash + 1);
  return piece;
}

}  // namespace

absl::string_view PathOf(absl::string_view target) {
  if (!absl::StartsWith(target, "/")) {
    const std::size_t scheme = target.find("://");
    if (scheme != absl::string_view::npos) {
      const std::size_t slash = target.find('/', scheme + 3);
      target = slash == absl::string_view::npos ? "/" : target.substr(slash);
    }
  }
  return target.substr(0, target.find_first_of("?#"));
}

absl::Status ParseRoute(absl::string_view path, RestRoute* route) {
  if (!absl::StartsWithIgnoreCase(path, "/v1/")) {
    return absl::NotFoundError(absl::StrCat("Not found: ", path));
  }
  const absl::Status malformed = absl::InvalidArgumentError(absl::StrCat("Malformed request: ", path));
  absl::string_view rest = path.substr(4);
  if (absl::EqualsIgnoreCase(rest, "models"))
    return absl::InvalidArgumentError("Missing model name in request.");
  if (!absl::EqualsIgnoreCase(NextPiece(&rest), "models") || rest.empty() || rest.back() == '/')
    return malformed;
  const std::size_t colon = rest.find(':');
  const absl::string_view verb =
      colon == absl::string_view::npos ? absl::string_view() : rest.substr(colon + 1);
  rest = rest.substr(0, colon);
  if (colon == absl::string_view::npos) {
    route->call = RestCall::kStatus;
  } else if (verb == "predict") {
    route->call = RestCall::kPredict;
  } else if (verb == "classify") {
    route->call = RestCall::kClassify;
  } else if (verb == "regress") {
    route->call = RestCall::kRegress;
  } else {
    return malformed;
  }
  const absl::string_view name = NextPiece(&rest);
  if (name.empty() || !Decode(name, &route->model.name)) return malformed;
  if (rest.empty()) return absl::OkStatus();
  absl::string_view word = NextPiece(&rest);
  const bool versions = absl::EqualsIgnoreCase(word, "versions");
  if (versions || absl::EqualsIgnoreCase(word, "labels")) {
    const absl::string_view value = NextPiece(&rest);
    if (value.empty()) return malformed;
    if (versions) {
      std::int64_t version = 0;
      if (!std::all_of(value.begin(), value.end(), absl::ascii_isdigit)) return malformed;
      if (!absl::SimpleAtoi(value, &version)) {
        return absl::InvalidArgumentError(absl::StrCat("Failed to convert version: ", value,
                                                       " to numeric; the largest is ",
                                                       std::numeric_limits<std::int64_t>::max(), "."));
      }
      route->model.version = version;
    } else {
      if (!Decode(value, &route->model.label)) return malformed;
    }
    if (rest.empty()) return absl::OkStatus();
    word = NextPiece(&rest);
  }
  const bool statistics = absl::EqualsIgnoreCase(word, "stats");
  if ((!statistics && !absl::EqualsIgnoreCase(word, "metadata")) || !rest.empty() ||
      route->call != RestCall::kStatus) {
    return malformed;
  }
  // As in TensorFlow Serving, the word in capitals asks for the status.
  route->call = statistics           ? RestCall::kStatistics
                : word == "metadata" ? RestCall::kMetadata
                                     : RestCall::kStatus;
  return absl::OkStatus();
}

}  // namespace tfipu::serving
