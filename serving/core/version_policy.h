// Which of the versions that exist are to be served.
#ifndef SERVING_CORE_VERSION_POLICY_H_
#define SERVING_CORE_VERSION_POLICY_H_

#include <cstdint>
#include <set>
#include <vector>

namespace tfipu::serving {

// The newest `count` versions, all of them, or certain ones.
struct VersionPolicy {
  enum class Kind { kLatest, kAll, kSpecific };
  Kind kind = Kind::kLatest;
  int count = 1;                    // kLatest
  std::set<std::int64_t> versions;  // kSpecific

  // Those of `existing` that are to be served, newest first.
  std::vector<std::int64_t> Choose(std::set<std::int64_t> existing) const;
};

}  // namespace tfipu::serving

#endif  // SERVING_CORE_VERSION_POLICY_H_
