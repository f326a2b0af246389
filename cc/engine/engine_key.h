// Whose engine it is, and which of theirs.
#ifndef CC_ENGINE_ENGINE_KEY_H_
#define CC_ENGINE_ENGINE_KEY_H_

#include <cstdint>
#include <string>
#include <tuple>

namespace tfipu {

// Whom an engine's name belongs to: a loaded version of a served model, so that two versions may use one
// name. A Python process has the one scope without a model.
struct EngineScope {
  std::string model;
  std::int64_t version = 0;
  // Tells versions of one number apart while both are loaded, from different folders; 0 for the first.
  int incarnation = 0;

  bool operator==(const EngineScope& other) const {
    return version == other.version && incarnation == other.incarnation && model == other.model;
  }
  bool operator<(const EngineScope& other) const {
    return std::tie(model, version, incarnation) < std::tie(other.model, other.version, other.incarnation);
  }
};

struct EngineKey {
  EngineScope scope;
  std::string name;

  bool operator==(const EngineKey& other) const { return name == other.name && scope == other.scope; }
  bool operator<(const EngineKey& other) const {
    return std::tie(scope, name) < std::tie(other.scope, other.name);
  }
};

}  // namespace tfipu

#endif  // CC_ENGINE_ENGINE_KEY_H_
