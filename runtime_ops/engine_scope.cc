#include "runtime_ops/engine_scope.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tfipu {

void WriteScope(const EngineScope& scope, tensorflow::SessionMetadata* metadata) {
  const bool plain = scope.incarnation == 0 && !absl::StrContains(scope.model, '#');
  metadata->set_name(plain ? scope.model : absl::StrCat(scope.model, "#", scope.incarnation));
  metadata->set_version(scope.version);
}

EngineScope ReadScope(const tensorflow::SessionMetadata* metadata) {
  EngineScope scope;
  if (metadata == nullptr || metadata->name().empty()) return scope;
  scope.version = metadata->version();
  const absl::string_view name = metadata->name();
  const std::size_t mark = name.rfind('#');
  if (mark == absl::string_view::npos || !absl::SimpleAtoi(name.substr(mark + 1), &scope.incarnation)) {
    scope.incarnation = 0;
    scope.model = std::string(name);
  } else {
    scope.model = std::string(name.substr(0, mark));
  }
  return scope;
}

}  // namespace tfipu
