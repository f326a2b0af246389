#include "serving/core/version_policy.h"

namespace tfipu::serving {

std::vector<std::int64_t> VersionPolicy::Choose(std::set<std::int64_t> existing) const {
  std::vector<std::int64_t> chosen;
  for (auto version = existing.rbegin(); version != existing.rend(); ++version) {
    if (kind == Kind::kLatest && static_cast<int>(chosen.size()) >= count) break;
    if (kind == Kind::kSpecific && versions.count(*version) == 0) continue;
    chosen.push_back(*version);
  }
  return chosen;
}

}  // namespace tfipu::serving
