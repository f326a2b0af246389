// The name of a version of a model.
#ifndef SERVING_CORE_SERVABLE_ID_H_
#define SERVING_CORE_SERVABLE_ID_H_

#include <cstdint>
#include <string>
#include <tuple>

namespace tfipu::serving {

struct ServableId {
  std::string name;
  std::int64_t version = 0;

  bool operator==(const ServableId& other) const { return version == other.version && name == other.name; }
  bool operator<(const ServableId& other) const {
    return std::tie(name, version) < std::tie(other.name, other.version);
  }
  // "{name: half_plus_two version: 1}"
  std::string DebugString() const { return "{name: " + name + " version: " + std::to_string(version) + "}"; }
};

}  // namespace tfipu::serving

#endif  // SERVING_CORE_SERVABLE_ID_H_
